"""An ASE calculator for runs that are disturbed: it writes down every call, and fails on demand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.units import Hartree

from fhi_al.reference.xtb import XtbEngine
from fhi_al.settings.reference import XtbSettings
from fhi_al.structure import Structure


class LoggedXtb(Calculator):
    """GFN2-xTB as the engine xtb computes it.

    Args:
        log: a line is appended to this file at the start of every call: the structure's positions.
        trouble: while this file exists, the third call and all after it end as the file says.
    """

    implemented_properties: ClassVar = ["energy", "free_energy", "forces"]

    def __init__(self, log: str, trouble: str) -> None:
        super().__init__()
        self._log, self._trouble = Path(log), Path(trouble)
        self._engine = XtbEngine(XtbSettings(), None, ["H", "O"], None, Path.cwd())

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        with self._log.open("a") as file:
            file.write(self.atoms.positions.tobytes().hex() + "\n")
        if self._trouble.exists() and len(self._log.read_text().splitlines()) >= 3:
            _end(self._trouble.read_text())
        label = self._engine.label(Structure.from_atoms(self.atoms))
        self.results = {
            "energy": label.energy,
            "free_energy": label.energy,
            "forces": label.forces,
        }


class Faulty(LoggedXtb):
    """Now and then the numbers are wrong, by the number of the call.

    Args:
        log: see `LoggedXtb`.
        trouble: see `LoggedXtb`.
        wrong_energy: the calls whose energy is in Hartree.
        pulled: the calls whose forces have a net force.
        moved: the calls that compute another geometry.
    """

    def __init__(
        self, log: str, trouble: str, wrong_energy: Any = (), pulled: Any = (), moved: Any = ()
    ) -> None:
        super().__init__(log, trouble)
        self._wrong_energy, self._pulled, self._moved = wrong_energy, pulled, moved

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        number = len(self._log.read_text().splitlines())
        if number in self._wrong_energy:
            self.results["free_energy"] = self.results["free_energy"] / Hartree
        if number in self._pulled:
            self.results["forces"] = self.results["forces"] + 0.2
        if number in self._moved:
            self.atoms.positions[0] += 0.01


def _end(how: str) -> None:
    if how == "error":
        raise ValueError("the calculator was told to fail")
    if how == "exit":
        os._exit(3)
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(1)
