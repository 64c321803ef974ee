"""Does an engine's stress mean what this program takes it for?"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import numpy as np

from fhi_al.atoms.structure import FloatArray, Label, Structure
from fhi_al.atoms.voigt import from_voigt
from fhi_al.errors import EngineError, UnconvergedError

log = logging.getLogger(__name__)

Compute = Callable[[Structure], tuple[float, FloatArray, FloatArray | None]]
"""Structure -> energy in eV, forces in eV/Å, stress in eV/Å^3 or None."""

_STRAIN = 0.01 * np.array([[0.2, 0.9, 0.0], [0.9, -0.3, -0.9], [0.0, -0.9, 0.4]])
"""Its shears are so different that a mixed-up order shows, even where the stress has none."""


class StressCheck:
    """Compares the first stress of an engine with the energy of one strained structure.

    A library of another origin may have the other sign, or another order of the components, and
    a force field would learn it without complaint.
    """

    def __init__(self) -> None:
        self._done = False

    def __call__(self, label: Label, compute: Compute) -> None:
        """Check a label, unless a check has been made before.

        The work of the strain is V/2 (σ_0 + σ_1) : ε to third order, which also has a sign where
        the first structure is free of stress.

        Args:
            label: of a molecule (passes) or of a crystal.
            compute: runs the engine.

        Raises:
            EngineError: the energy changes by the opposite, or by something unrelated.
        """
        if self._done or label.stress is None:
            return
        structure = label.structure
        deformation = np.eye(3) + _STRAIN
        strained = dataclasses.replace(
            structure,
            positions=structure.positions @ deformation,
            cell=structure.cell @ deformation,
        )
        try:
            energy, _, stress = compute(strained)
        except UnconvergedError:
            return  # says nothing about the stress; the next label is checked
        self._done = True
        assert stress is not None
        # At either end ε is taken relative to that end.
        start = _volume(structure) * _contract(label.stress, _STRAIN)
        end = _volume(strained) * _contract(stress, np.eye(3) - np.linalg.inv(deformation))
        work, change = (start + end) / 2, energy - label.energy
        noise = 5e-5 * len(structure) + 5e-4
        log.info("stress check: energy of a strain %.5f eV, by the stress %.5f eV", change, work)
        if abs(work - change) <= 0.2 * max(abs(work), abs(change)) + noise:
            return
        raise EngineError(
            f"the engine's stress doesn't fit its energy: a small strain changes the energy by "
            f"{change:.5f} eV, expected {work:.5f} eV from the stress (eV/Å^3, sign as in ASE); "
            "the sign, the order or the settings of the stress are wrong, or the basis is far from "
            "converged"
        )


def _volume(structure: Structure) -> float:
    return abs(float(np.linalg.det(structure.cell)))


def _contract(stress: FloatArray, strain: FloatArray) -> float:
    return float((from_voigt(stress) * strain).sum())
