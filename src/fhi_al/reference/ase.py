"""Any ASE calculator, by its dotted path: PySCF, GPAW, ORCA, VASP, Quantum ESPRESSO, ..."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from subprocess import SubprocessError
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import (
    CalculationFailed,
    CalculatorError,
    CalculatorSetupError,
    PropertyNotImplementedError,
)

from fhi_al.atoms.structure import FloatArray, Label, Structure
from fhi_al.errors import EngineError, InputError, UnconvergedError, UnsoundError
from fhi_al.reference.engine import charge_and_unpaired, hash_settings, make_label
from fhi_al.reference.integrity import check_geometry
from fhi_al.reference.stress import StressCheck
from fhi_al.reference.workdir import inside

if TYPE_CHECKING:
    from fhi_al.settings.control_in import ControlIn
    from fhi_al.settings.reference import AseSettings

log = logging.getLogger(__name__)

OUTPUT = "calculator.out"
"""Where what the calculator prints goes, in the group's folder."""


class AseEngine:
    """Labels by an ASE calculator, a new one for each structure.

    So a label doesn't depend on those before it. The calculator works in the group's folder:
    paths in REFERENCE.arguments must be absolute.
    """

    def __init__(
        self,
        settings: AseSettings,
        control: ControlIn | None,
        elements: Sequence[str],
        comm: Any,
        directory: Path,
    ) -> None:
        self._settings = settings
        self._control = control
        self._directory = directory
        self._digest = self.digest(settings, control, elements)
        self._class = _find(settings.calculator)
        self._stress_check = StressCheck()
        self._missing: set[str] = set()
        for keyword, asked in (
            ("charge", control is not None and control.charge),
            ("spin", control is not None and control.unpaired),
        ):
            if asked and getattr(settings, keyword) is None:
                raise InputError(
                    f"control.in: {keyword}: {settings.calculator} would not get it; name the "
                    f"keyword that takes it in REFERENCE.{keyword}"
                )
        self._try_out(elements)

    @classmethod
    def digest(
        cls, settings: AseSettings, control: ControlIn | None, elements: Sequence[str]
    ) -> str:
        """See `Engine.digest`: the calculator and all its arguments."""
        return hash_settings(
            "ase",
            calculator=settings.calculator,
            arguments=settings.arguments,
            energy=settings.energy,
            charge=control.charge if control is not None else 0.0,
            unpaired=control.unpaired if control is not None else None,
        )

    def atomic_energies(self) -> dict[str, float] | None:
        """See `Engine.atomic_energies`: computed like any other label."""
        return None

    def label(self, structure: Structure) -> Label:
        """See `Engine.label`."""
        start = time.perf_counter()
        energy, forces, stress = self._compute(structure)
        charge, unpaired = charge_and_unpaired(structure, self._control)
        label = make_label(
            structure,
            self._digest,
            energy=energy,
            forces=forces,
            stress=stress,
            engine="ase",
            method=self._settings.calculator,
            charge=charge,
            unpaired=-1 if unpaired is None else unpaired,
            seconds=time.perf_counter() - start,
        )
        self._stress_check(label, self._compute)
        return label

    def close(self) -> None:
        """See `Engine.close`: nothing outlives a label."""

    def _compute(self, structure: Structure) -> tuple[float, FloatArray, FloatArray | None]:
        charge, unpaired = charge_and_unpaired(structure, self._control)
        if unpaired is None:
            unpaired = round(int(structure.numbers.sum()) - charge) % 2
        atoms = structure.to_atoms()
        try:
            with inside(self._directory, OUTPUT):
                atoms.calc = self._new(charge, unpaired)
                forces = atoms.get_forces(apply_constraint=False)
                energy = self._optional(atoms, self._settings.energy)
                if energy is None:
                    energy = atoms.get_potential_energy(apply_constraint=False)
                stress = self._optional(atoms, "stress") if structure.periodic else None
            if atoms.calc.atoms is not None:
                check_geometry(structure, atoms.calc.atoms)
        except UnsoundError:
            raise
        except Exception as error:  # whatever a calculator may raise is sorted here
            name = self._settings.calculator
            text = f"{name}: {type(error).__name__}: {error}"
            if _is_outcome(error):
                raise UnconvergedError(text) from error
            raise EngineError(f"{text}; see {self._directory / OUTPUT}") from error
        return float(energy), np.asarray(forces), stress

    def _optional(self, atoms: Any, name: str) -> Any:
        """A result, or None where the calculator doesn't have it; says so once."""
        try:
            return atoms.calc.get_property(name, atoms)
        except PropertyNotImplementedError:
            if name not in self._missing:
                log.warning("%s gives no %s", self._settings.calculator, name)
                self._missing.add(name)
            return None

    def _new(self, charge: float, unpaired: int) -> Any:
        arguments = dict(self._settings.arguments)
        if self._settings.charge is not None:
            arguments[self._settings.charge] = round(charge) if charge.is_integer() else charge
        if self._settings.spin is not None:
            arguments[self._settings.spin] = unpaired
        return self._class(**arguments)

    def _try_out(self, elements: Sequence[str]) -> None:
        """Make a calculator, and ask it for the elements where it can tell."""
        try:
            with inside(self._directory, OUTPUT):
                calculator = self._new(0.0, 0)
                if hasattr(calculator, "check_elements"):
                    calculator.check_elements(sorted(set(elements)))
        except Exception as error:  # the user's arguments can raise anything
            raise InputError(
                f"REFERENCE: {self._settings.calculator} can't be used with arguments "
                f"{self._settings.arguments} for {', '.join(sorted(set(elements)))}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _find(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"REFERENCE.calculator: {path} can't be imported ({error}); expected the dotted path "
            "of an ASE calculator's class, such as fhi_al.reference.pyscf.PySCF; is its package "
            "installed?"
        ) from error


def _is_outcome(error: Exception) -> bool:
    """Whether the calculation failed for this structure, rather than the calculator for all."""
    if isinstance(error, CalculatorSetupError | NotImplementedError):
        return False
    if isinstance(
        error, CalculationFailed | CalculatorError | SubprocessError | np.linalg.LinAlgError
    ):
        return True
    # Not every calculator uses ASE's exceptions: GPAW has KohnShamConvergenceError, ...
    return any("convergence" in kind.__name__.lower() for kind in type(error).__mro__)
