"""A pretrained model as teacher: a MACE file, or SO3LR."""

from __future__ import annotations

import hashlib
import logging
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fhi_al.atoms.structure import Label, Structure
from fhi_al.errors import EngineError, InputError
from fhi_al.record.hush import hushed
from fhi_al.reference.engine import charge_and_unpaired, hash_settings, make_label
from fhi_al.reference.so3lr import so3lr_calculator, so3lr_energies
from fhi_al.reference.workdir import inside

if TYPE_CHECKING:
    from fhi_al.settings.control_in import ControlIn
    from fhi_al.settings.reference import MlffSettings

log = logging.getLogger(__name__)

OUTPUT = "model.out"
"""Where what the model's package prints goes, in the group's folder."""


class MlffEngine:
    """Labels by a machine-learned force field, through its own ASE calculator.

    Attributes:
        device: where the model lives, as torch names it.
    """

    def __init__(
        self,
        settings: MlffSettings,
        control: ControlIn | None,
        elements: Sequence[str],
        comm: Any,
        directory: Path,
    ) -> None:
        self._settings = settings
        self._control = control
        self._directory = directory
        self._elements = sorted(set(elements))
        self._digest = self.digest(settings, control, elements)
        self.device = find_device(settings.device)
        load = _so3lr if settings.model == "so3lr" else _mace
        with self._quiet():
            self._calculator, self._own_energies = load(settings, self.device)
        unknown = [symbol for symbol in self._elements if symbol not in self._own_energies]
        if unknown:
            raise InputError(
                f"geometry.in: the model {settings.model} doesn't know {', '.join(unknown)}; "
                f"it knows {', '.join(self._own_energies)}; choose another REFERENCE.model"
            )

    @classmethod
    def digest(
        cls, settings: MlffSettings, control: ControlIn | None, elements: Sequence[str]
    ) -> str:
        """See `Engine.digest`: the weights, wherever they lie, and the precision."""
        if settings.model == "so3lr":
            weights = f"so3krates-torch {metadata.version('so3krates-torch')}"
        else:
            weights = hashlib.sha256(Path(settings.model).read_bytes()).hexdigest()
        return hash_settings(
            "mlff",
            weights=weights,
            dtype=settings.dtype,
            charge=control.charge if control is not None else 0.0,
            unpaired=control.unpaired if control is not None else None,
        )

    def atomic_energies(self) -> dict[str, float] | None:
        """See `Engine.atomic_energies`: those that the teacher was trained with."""
        return {symbol: self._own_energies[symbol] for symbol in self._elements}

    def label(self, structure: Structure) -> Label:
        """See `Engine.label`."""
        start = time.perf_counter()
        charge, unpaired = charge_and_unpaired(structure, self._control)
        atoms = structure.to_atoms()
        atoms.info["charge"] = charge
        # The same thing by the names of SO3LR (unpaired electrons) and MACE (multiplicity).
        atoms.info["total_spin"] = float(unpaired or 0)
        atoms.info["spin"] = float((unpaired or 0) + 1)
        try:
            with self._quiet():
                # Directly: through atoms.get_forces(), ASE would give the results of the same
                # positions with another charge.
                self._calculator.calculate(atoms, ["energy", "forces", "stress"])
        except (RuntimeError, ValueError, IndexError) as error:
            raise EngineError(f"the model {self._settings.model}: {error}") from error
        results = self._calculator.results
        return make_label(
            structure,
            self._digest,
            energy=float(results["energy"]),
            forces=results["forces"],
            stress=results["stress"] if structure.periodic else None,
            engine="mlff",
            method=Path(self._settings.model).name,
            device=self.device,
            charge=charge,
            unpaired=-1 if unpaired is None else unpaired,
            seconds=time.perf_counter() - start,
        )

    def close(self) -> None:
        """See `Engine.close`: the memory goes with the object."""

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Let the model's package print, warn and set the default precision, for itself."""
        import torch

        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, self._settings.dtype))
        try:
            with inside(self._directory, OUTPUT), hushed():
                yield
        finally:
            torch.set_default_dtype(before)


def find_device(wanted: str) -> str:
    """Name the torch device to use.

    Args:
        wanted: `auto`, `cpu`, `cuda`, `mps` or `xpu`.

    Raises:
        InputError: it isn't there.
    """
    import torch

    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
    }
    if wanted == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there[wanted]:
        raise InputError(
            f"REFERENCE.device: {wanted} is asked for, but torch finds no such device on "
            f"{platform.node()}; set it to cpu or auto, or run where there is one"
        )
    return wanted


def _so3lr(settings: MlffSettings, device: str) -> tuple[Any, dict[str, float]]:
    """The calculator, and the energies in eV of the elements it knows."""
    calculator = so3lr_calculator(device, settings.dtype, stress=True, where="REFERENCE.model")
    return calculator, so3lr_energies(calculator)


def _mace(settings: MlffSettings, device: str) -> tuple[Any, dict[str, float]]:
    """The calculator, and the energies in eV of the elements it knows."""
    from fhi_al.ensemble.teacher import mace_calculator

    path = Path(settings.model)
    log.warning("%s is a pickle, which can run any code: use only files that you trust.", path)
    try:
        return mace_calculator(path, device, settings.dtype)
    except Exception as error:  # unpickling can raise anything
        raise InputError(
            f"REFERENCE.model: {path} can't be used as a MACE model "
            f"({type(error).__name__}: {error}); give a file that mace_run_train or FHI_AL wrote"
        ) from error
