"""One thin file for each kind of effect: here the science meets the record."""
