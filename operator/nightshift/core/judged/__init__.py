"""Rollouts that judge themselves: phases, orders, steps, and who may go on."""
