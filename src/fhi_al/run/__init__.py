"""A run from its start to its end: controller, launch, opening, closing, stopping."""
