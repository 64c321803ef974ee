"""What everything is about: structures, pairs, batches, neighbour lists."""
