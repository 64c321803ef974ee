"""An ASE calculator for runs that are recorded, stopped and continued: it writes down every call.

Nothing of `fhi_al` is in it, so that the program of then and that of now are asked for by the same
calculator. `COUNTED_XTB` names a file that gets a line for each call. The file of the same name
with `.faults` behind it, if there is one, says which calls go wrong, and how: JSON, of the number
of the call (or `any`) and the fault.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.units import Bohr, Hartree
from tblite.interface import Calculator as TightBinding


class CountedXtb(Calculator):
    """GFN2-xTB of molecules.

    Args:
        uhf: number of unpaired electrons.
    """

    implemented_properties: ClassVar = ["energy", "free_energy", "forces"]

    def __init__(self, uhf: int = 0) -> None:
        super().__init__()
        self._uhf = uhf

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        fault = _count(f"{self.atoms.symbols} {self._uhf} {self.atoms.positions.tobytes().hex()}")
        if fault == "stuck":
            time.sleep(3600)
        if fault == "exit":
            # As libraries do it, past Python: the program finds a mark of that.
            ctypes.CDLL(None).exit(3)
        if fault == "scf":
            raise CalculationFailed("told to fail")
        calculator = TightBinding(
            "GFN2-xTB", self.atoms.numbers, self.atoms.positions / Bohr, uhf=self._uhf
        )
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
        energy = result.get("energy") * Hartree
        forces = -result.get("gradient") * Hartree / Bohr
        if fault == "unit":
            energy /= Hartree
        if fault == "pull":
            forces += 0.2
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


def _count(structure: str) -> str | None:
    """Write down a call; the fault that it is to have."""
    calls = Path(os.environ["COUNTED_XTB"])
    with calls.open("a") as file:
        file.write(hashlib.sha256(structure.encode()).hexdigest() + "\n")
    try:
        faults = json.loads(calls.with_suffix(".faults").read_text())
    except FileNotFoundError:
        return None
    number = len(calls.read_text().splitlines())
    fault: str | None = faults.get(str(number), faults.get("any"))
    return fault
