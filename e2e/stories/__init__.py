"""Stories on a real cluster, told as Given, When, Then."""
