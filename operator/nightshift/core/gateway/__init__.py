"""The gateway's decisions: what HAProxy should be, and what becomes of requests that wait for a replica."""
