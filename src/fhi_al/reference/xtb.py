"""Extended tight binding (GFN2-xTB, GFN1-xTB) through tblite, molecules and crystals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.units import Bohr, Hartree, kB

from fhi_al.atoms.structure import Label, Structure
from fhi_al.atoms.voigt import to_voigt
from fhi_al.errors import EngineError, InputError, UnconvergedError
from fhi_al.reference.engine import charge_and_unpaired, hash_settings, make_label

if TYPE_CHECKING:
    from fhi_al.settings.control_in import ControlIn
    from fhi_al.settings.reference import XtbSettings

HEAVIEST = 86
"""Both parametrisations end at radon."""


class XtbEngine:
    """Labels by tblite. Every structure gets a fresh calculator.

    A reused one would start from the density before and differ by 1.5e-4 eV/Å from a fresh one,
    so that a label would depend on the labels before it.

    Source: C. Bannwarth et al., J. Chem. Theory Comput. 15, 1652 (2019), GFN2-xTB;
    S. Grimme et al., J. Chem. Theory Comput. 13, 1989 (2017), GFN1-xTB.
    """

    def __init__(
        self,
        settings: XtbSettings,
        control: ControlIn | None,
        elements: Sequence[str],
        comm: Any,
        directory: Path,
    ) -> None:
        try:
            from tblite.interface import Calculator
        except ImportError as error:
            raise InputError(
                f"REFERENCE.engine: xtb needs tblite, which can't be imported ({error}); "
                "install it with `pip install fhi_al[xtb]`"
            ) from error
        unknown = sorted(s for s in set(elements) if atomic_numbers[s] > HEAVIEST)
        if unknown:
            raise InputError(
                f"geometry.in: {settings.method} has no parameters for {', '.join(unknown)}; "
                f"it knows H to {chemical_symbols[HEAVIEST]}; choose another REFERENCE.engine"
            )
        self._calculator = Calculator
        self._settings = settings
        self._control = control
        self._digest = self.digest(settings, control, elements)
        self._valence: dict[int, int] = {}

    @classmethod
    def digest(
        cls, settings: XtbSettings, control: ControlIn | None, elements: Sequence[str]
    ) -> str:
        """See `Engine.digest`. Iterations and mixing decide whether, not what, a label is."""
        return hash_settings(
            "xtb",
            method=settings.method,
            accuracy=settings.accuracy,
            electronic_temperature_K=settings.electronic_temperature_K,
            charge=control.charge if control is not None else 0.0,
            unpaired=control.unpaired if control is not None else None,
        )

    def atomic_energies(self) -> dict[str, float] | None:
        """See `Engine.atomic_energies`: computed like any other label."""
        return None

    def label(self, structure: Structure) -> Label:
        """See `Engine.label`."""
        start = time.perf_counter()
        charge, unpaired = charge_and_unpaired(structure, self._control)
        try:
            calculator = self._new(structure, charge, unpaired)
            result = calculator.singlepoint()
        except RuntimeError as error:
            raise UnconvergedError(f"{self._settings.method}: {str(error).strip()}") from error
        except (TypeError, ValueError) as error:
            raise EngineError(f"tblite refuses the structure: {str(error).strip()}") from error
        stress = None
        if structure.periodic:
            volume = abs(np.linalg.det(structure.cell))
            virial = result.get("virial") * Hartree / volume
            stress = to_voigt(virial)
        return make_label(
            structure,
            self._digest,
            # The electronic entropy is part of tblite's energy: it is the free energy.
            energy=result.get("energy") * Hartree,
            forces=-result.get("gradient") * (Hartree / Bohr),
            stress=stress,
            engine="xtb",
            method=self._settings.method,
            charge=charge,
            unpaired=-1 if unpaired is None else unpaired,
            seconds=time.perf_counter() - start,
        )

    def close(self) -> None:
        """See `Engine.close`: nothing to free."""

    def _new(self, structure: Structure, charge: float, unpaired: int | None) -> Any:
        calculator = self._calculator(
            self._settings.method,
            structure.numbers,
            structure.positions / Bohr,
            charge=charge,
            uhf=unpaired,
            lattice=structure.cell / Bohr if structure.periodic else None,
            periodic=structure.pbc if structure.periodic else None,
        )
        n_orbitals = len(calculator.get("orbital-map"))
        self._check_electrons(structure, charge, unpaired or 0, n_orbitals)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", self._settings.accuracy)
        calculator.set("max-iter", self._settings.max_iterations)
        calculator.set("mixer-damping", self._settings.mixer_damping)
        calculator.set("temperature", self._settings.electronic_temperature_K * kB / Hartree)
        return calculator

    def _check_electrons(
        self, structure: Structure, charge: float, unpaired: int, n_orbitals: int
    ) -> None:
        # tblite 0.8 writes past the end of its arrays when more electrons of one spin are asked
        # for than there are orbitals (seen: "corrupted size vs. prev_size", abort).
        electrons = sum(self._valence_electrons(int(z)) for z in structure.numbers) - charge
        whole = abs(electrons - round(electrons)) < 1e-9
        if (
            electrons < unpaired
            or (electrons + unpaired) / 2 > n_orbitals
            or (unpaired and whole and (round(electrons) - unpaired) % 2)
        ):
            raise UnconvergedError(
                f"{self._settings.method}: {electrons:g} valence electrons in {n_orbitals} "
                f"orbitals can't have {unpaired} of them unpaired (total charge {charge:g} e); "
                "see charge and spin in control.in, initial moments and charges in geometry.in"
            )

    def _valence_electrons(self, number: int) -> int:
        if number not in self._valence:
            atom = self._calculator(self._settings.method, np.array([number]), np.zeros((1, 3)))
            atom.set("verbosity", 0)
            occupations = atom.singlepoint().get("orbital-occupations")
            self._valence[number] = round(float(occupations.sum()))
        return self._valence[number]
