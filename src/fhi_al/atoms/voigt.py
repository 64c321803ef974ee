"""Symmetric tensors as six numbers in Voigt order, as ASE has it: xx, yy, zz, yz, xz, xy."""

from __future__ import annotations

from fhi_al.atoms.structure import FloatArray

_ROW, _COLUMN = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]
_PLACE = [[0, 5, 4], [5, 1, 3], [4, 3, 2]]


def to_voigt(tensor: FloatArray) -> FloatArray:
    """Take (..., 3, 3) symmetric tensors, of which the upper triangle counts, to (..., 6)."""
    return tensor[..., _ROW, _COLUMN]


def from_voigt(values: FloatArray) -> FloatArray:
    """Take (..., 6) numbers to (..., 3, 3) symmetric tensors."""
    return values[..., _PLACE]
