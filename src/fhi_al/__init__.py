"""Active learning of MACE force fields with FHI-aims and other reference methods."""

__version__ = "0.1.0"
