"""How a run is coming along: worked out from its journal, drawn for people."""
