"""A run foretold: what it will cost, found out before it."""
