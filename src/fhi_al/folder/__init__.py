"""A run's folder: places, artefacts, lock, housekeeping, repair."""
