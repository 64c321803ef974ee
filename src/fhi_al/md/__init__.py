"""Molecular dynamics of many walkers in one batch."""
