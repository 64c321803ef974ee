"""The split of the MPI world into roles, and how effects and events travel between them."""
