"""The kopf shell: observe, plan, apply, status. Order and errors only, no decisions."""
