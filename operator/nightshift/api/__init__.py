"""The contract: what users write, what Nightshift stores, and the names of both. Values only."""
