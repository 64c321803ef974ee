"""The MPI world, and messages that burn no core."""
