"""The gateway's processes beside HAProxy: the agent that drives it, and the activator that holds requests."""
