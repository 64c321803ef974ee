"""Do the numbers of a reference calculation belong to the structure that was asked for?"""

from __future__ import annotations

from typing import Any

import numpy as np

from fhi_al.atoms.structure import Label, Structure
from fhi_al.errors import UnsoundError

_SAME_A = 1e-3
"""Å; programs that exchange files round their coordinates."""


def check_net_force(label: Label, largest: float) -> None:
    """Check that a free molecule doesn't pull itself up by its own forces.

    Args:
        label: of a molecule, or of a crystal, whose net force says nothing: it passes.
        largest: net force to be tolerated, in eV/Å.

    Raises:
        UnsoundError: the net force is larger.
    """
    if label.structure.periodic:
        return
    net = float(np.linalg.norm(label.forces.sum(axis=0)))
    if net > largest:
        raise UnsoundError(
            f"the forces on the molecule add up to {net:.3g} eV/Å, expected 0 within "
            f"max_net_force_eV_per_A ({largest:g}): tighten the integration grids or the SCF of "
            "the reference, or raise that setting"
        )


def check_geometry(structure: Structure, reported: Any) -> None:
    """Check that the engine has computed the structure that was asked for.

    Args:
        structure: that was asked for.
        reported: ASE atoms that the engine says its results are of.

    Raises:
        UnsoundError: they differ.
    """
    if not np.array_equal(reported.numbers, structure.numbers):
        raise UnsoundError(
            f"the engine computed {reported.get_chemical_formula()} in another order of atoms, or "
            "other atoms, than asked for"
        )
    off = float(np.abs(reported.positions - structure.positions).max(initial=0.0))
    if structure.periodic:
        off = max(off, float(np.abs(reported.cell.array - structure.cell).max()))
    if not off <= _SAME_A:
        raise UnsoundError(
            f"the engine computed another geometry than asked for: coordinates differ by up to "
            f"{off:.3g} Å"
        )
