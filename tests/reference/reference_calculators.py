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


class Unsound(EMT):
    """Springs between all atoms, with one flaw in what it gives back, or none."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, flaw: str = "") -> None:
        super().__init__()
        self._flaw = flaw
        if flaw == "no forces":
            self.implemented_properties = ["energy"]  # type: ignore[misc]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        self.atoms = atoms.copy()
        centred = atoms.positions - atoms.positions.mean(axis=0)
        self.results = {"energy": 0.5 * float((centred**2).sum()), "forces": -centred}
        if self._flaw == "pulled":
            self.results["forces"] = self.results["forces"] + [0.05, 0.0, 0.0]
        elif self._flaw == "shape":
            self.results["forces"] = self.results["forces"][:-1]
        elif self._flaw == "nan":
            self.results["forces"][0, 0] = np.nan
        elif self._flaw == "moved":
            self.atoms.positions[0, 0] += 0.1
        elif self._flaw == "reordered":
            self.atoms = self.atoms[::-1]
        elif self._flaw == "no forces":
            del self.results["forces"]


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
