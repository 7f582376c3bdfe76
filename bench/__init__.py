"""Benchmarks: what Nightshift promises in numbers, measured. `python -m bench.NAME` runs one."""
