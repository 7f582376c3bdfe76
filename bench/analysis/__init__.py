"""Simulated rollouts through the judgement of the operator, and through that of its peers."""
