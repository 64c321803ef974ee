"""A run watched: how it comes along, worked out from its journal."""
