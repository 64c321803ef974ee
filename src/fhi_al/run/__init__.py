"""A run from start to end: launch, opening, controller, stopping, closing."""
