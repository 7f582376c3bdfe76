"""The operator of this checkout as a process beside the cluster: killed at a write, or behind a proxy with faults."""
