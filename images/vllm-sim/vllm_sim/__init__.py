"""A simulator of vLLM's HTTP server, for tests at a scale where real engines do not fit.

It takes vLLM's own command line, answers vLLM's HTTP surface, and moves vLLM's metrics, under the names
of a chosen vLLM version. What differs from real vLLM is measured and listed in docs/simulator.md.
"""
