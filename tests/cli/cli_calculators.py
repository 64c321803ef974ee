"""An ASE calculator for runs that are disturbed: it writes down every call, and fails on demand."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.units import Hartree

from fhi_al.atoms.structure import Structure
from fhi_al.reference.xtb import XtbEngine
from fhi_al.settings.reference import XtbSettings


class LoggedXtb(Calculator):
    """GFN2-xTB as the engine xtb computes it.

    Args:
        log: a line is appended to this file at the start of every call: the structure's positions.
        trouble: while this file exists, the third call and all after it end as the file says. With
            `stuck`, they wait in compiled code until somebody writes to the FIFO beside the file;
            with `full`, this rank can write no file from then on.
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
            _meet(self._trouble)
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


def _meet(trouble: Path) -> None:
    how = trouble.read_text()
    if how == "stuck":
        gate = os.open(trouble.with_suffix(".gate"), os.O_RDWR)
        # Not by Python: it would handle signals while it waits.
        ctypes.CDLL(None).read(gate, ctypes.create_string_buffer(1), 1)
        os.close(gate)
        return
    if how == "full":
        # No file of this rank may become larger: as if the disk were full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return
    if how == "error":
        raise ValueError("the calculator was told to fail")
    if how == "exit":
        os._exit(3)
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(1)
