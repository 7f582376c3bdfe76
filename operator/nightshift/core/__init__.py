"""Pure decisions: values in, values out. No client, clock, randomness or logging."""
