"""What tests of molecular dynamics ask for by name."""

from md_forces import folder, springs, wells

__all__ = ["folder", "springs", "wells"]
