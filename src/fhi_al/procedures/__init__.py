"""Pure decisions: which effects should be running, given the events so far."""
