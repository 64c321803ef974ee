"""A reference whose cost can be set: GFN2-xTB that sleeps, so that it uses no processor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator, SCFError, all_changes

from fhi_al.atoms.structure import Structure
from fhi_al.errors import UnconvergedError
from fhi_al.reference.xtb import XtbEngine
from fhi_al.settings.reference import XtbSettings


class SlowXtb(Calculator):
    """GFN2-xTB in a given time.

    Args:
        seconds: that each calculation takes; its own time, if that is longer.
    """

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._engine = XtbEngine(XtbSettings(), None, [], None, Path())

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        end = time.monotonic() + self._seconds
        try:
            label = self._engine.label(Structure.from_atoms(self.atoms))
        except UnconvergedError as error:
            raise SCFError(str(error)) from error
        finally:
            time.sleep(max(0.0, end - time.monotonic()))
        self.results = {
            "energy": label.energy,
            "free_energy": label.energy,
            "forces": label.forces,
        }
