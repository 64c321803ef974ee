"""Calculators with one flaw each, and what a user's own may look like."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from ase.calculators.calculator import (
    CalculationFailed,
    CalculatorSetupError,
    SCFError,
    all_changes,
)
from ase.calculators.emt import EMT


class KohnShamConvergenceError(Exception):
    """Not one of ASE's, like GPAW's."""


ERRORS = {
    "scf": SCFError("no convergence"),
    "failed": CalculationFailed("the program ended with code 1"),
    "gpaw": KohnShamConvergenceError("too many iterations"),
    "setup": CalculatorSetupError("no such pseudopotential"),
    "bug": KeyError("energy"),
}
STRESSES = {
    "": lambda stress: stress,
    "sign": lambda stress: -stress,
    "yz-xy": lambda stress: stress[[0, 1, 2, 5, 4, 3]],
    "yz-xz": lambda stress: stress[[0, 1, 2, 4, 3, 5]],
    "xz-xy": lambda stress: stress[[0, 1, 2, 3, 5, 4]],
}


class Flawed(EMT):
    """EMT that raises an error, prints, or gives a wrong stress."""

    def __init__(self, error: str = "", stress: str = "", **kwargs) -> None:
        super().__init__(**kwargs)
        self._error = error
        self._stress = stress

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        print("EMT is working")
        if self._error:
            raise ERRORS[self._error]
        super().calculate(atoms, properties, system_changes)
        if "stress" in self.results:
            self.results["stress"] = STRESSES[self._stress](self.results["stress"])


class Harmonic(EMT):
    """Atoms on springs, with spin and charge; the free energy is not the energy."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(self, total_charge: float = 0, multiplicity_minus_1: int = 0) -> None:
        super().__init__()
        self._electrons = 10.0 * total_charge + multiplicity_minus_1

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        energy = 0.5 * float((atoms.positions**2).sum()) + self._electrons
        self.results = {
            "energy": energy + 100,
            "free_energy": energy,
            "forces": -np.array(atoms.positions),
        }
