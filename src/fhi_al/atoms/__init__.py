"""What everything is about: structures, pairs of atoms, batches, neighbour lists."""
