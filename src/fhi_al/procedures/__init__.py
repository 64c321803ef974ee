"""Pure state machines: which effects should be running, given the events so far."""
