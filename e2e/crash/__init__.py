"""Killing the operator's process at every kind of write, on a real cluster: each time the same must come about."""
