"""Structures and labels, by the name that engines of users import them by."""

from fhi_al.atoms.structure import Label, Structure, structure_key

__all__ = ["Label", "Structure", "structure_key"]
