"""What every reference engine is; those that there are stand in `ENGINES`."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fhi_al.atoms.structure import Label, Structure, structure_key
from fhi_al.errors import UnsoundError
from fhi_al.settings.engine import ReferenceSettings
from fhi_al.settings.reference import ENGINES

if TYPE_CHECKING:
    from fhi_al.settings.control_in import ControlIn

__all__ = [
    "ENGINES",
    "Engine",
    "Labeller",
    "ReferenceSettings",
    "charge_and_unpaired",
    "engine_class",
    "hash_settings",
    "make_label",
]


class Labeller(Protocol):
    """Whatever labels structures in the processes of one reference group."""

    def atomic_energies(self) -> dict[str, float] | None:
        """Isolated-atom energies that the engine brings along itself.

        Returns:
            Chemical symbol -> energy in eV for all elements of the run, or None: they have to be
            computed.
        """

    def label(self, structure: Structure) -> Label:
        """Compute energy, forces and (periodic structures) stress. Collective over the group.

        Initial moments and charges of the structure decide its spin and charge as in
        `charge_and_unpaired`. The label is the same on every rank.

        Raises:
            UnconvergedError: no usable result for this structure; the engine works on.
            EngineError: the engine is broken; the run ends.
        """

    def close(self) -> None:
        """Free the library. A later `label` starts it again."""


class Engine(Labeller, Protocol):
    """A reference method; what it can do stands in the class of its settings.

    The class may be imported anywhere; only an instance may import the library behind it.
    """

    def __init__(
        self,
        settings: ReferenceSettings,
        control: ControlIn | None,
        elements: Sequence[str],
        comm: Any,
        directory: Path,
    ) -> None:
        """Start the engine. Collective over the group.

        Args:
            settings: the REFERENCE section.
            control: control.in, or None where the engine needs none and there is none.
            elements: chemical symbols of the run; no structure will have others.
            comm: the group's mpi4py communicator if the engine is parallel, or None for a process
                alone.
            directory: an existing folder of this group's own, absolute.

        Raises:
            InputError: the user's settings can't work (library missing, element unknown, ...);
                on every rank of the group if on any.
        """

    @classmethod
    def digest(
        cls, settings: ReferenceSettings, control: ControlIn | None, elements: Sequence[str]
    ) -> str:
        """Digest of everything but the structure that decides a label. Imports no library.

        Args:
            settings: the REFERENCE section.
            control: control.in, or None.
            elements: chemical symbols of the run, in any order.
        """


def engine_class(name: str) -> type[Engine]:
    """Import the class of a reference engine.

    Args:
        name: in the REFERENCE section, a key of `ENGINES`.
    """
    found: type[Engine] = ENGINES[name].load()
    return found


def hash_settings(engine: str, **values: Any) -> str:
    """Digest of an engine's settings, for `Engine.digest`.

    Args:
        engine: its name.
        values: settings that decide the label: what YAML can hold.

    Returns:
        SHA-256 in hexadecimal.
    """
    # YAML has dates, which JSON hasn't.
    text = json.dumps({"engine": engine, **values}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def charge_and_unpaired(
    structure: Structure, control: ControlIn | None
) -> tuple[float, int | None]:
    """Total charge and number of unpaired electrons of a structure.

    What the structure says (the sums of its initial charges and moments) goes before what
    control.in says: an isolated atom of a charged system is neutral.

    Args:
        structure: what is to be labelled.
        control: control.in, or None.

    Returns:
        The charge in e, and the unpaired electrons, or None: as few as possible.
    """
    charge = control.charge if control is not None else 0.0
    moment = control.unpaired if control is not None else None
    if structure.charges is not None:
        charge = float(structure.charges.sum())
    if structure.magmoms is not None:
        moment = float(structure.magmoms.sum())
    return charge, None if moment is None else round(abs(moment))


def make_label(
    structure: Structure,
    digest: str,
    *,
    energy: float,
    forces: Any,
    stress: Any = None,
    **provenance: str | int | float,
) -> Label:
    """Put an engine's numbers together with what they belong to.

    Args:
        structure: that was computed.
        digest: of the engine.
        energy: in eV.
        forces: (atoms, 3) in eV/Å.
        stress: (6,) in eV/Å^3, ASE's sign and Voigt order, or None.
        provenance: `engine`, `method`, `seconds` and what else the engine has to say.

    Raises:
        UnsoundError: numbers are missing, too few or too many, or not finite.
    """
    numbers = {"energy": (energy, ()), "forces": (forces, (len(structure), 3))}
    if stress is not None:
        numbers["stress"] = (stress, (6,))
    for name, (values, shape) in numbers.items():
        if np.shape(values) != shape:
            raise UnsoundError(
                f"the {name} of the reference calculation: got an array of shape "
                f"{np.shape(values)}, expected {shape}"
            )
        if not np.isfinite(values).all():
            raise UnsoundError(f"the {name} of the reference calculation is not finite")
    return Label(
        structure=structure,
        key=structure_key(structure, digest),
        energy=energy,
        forces=forces,
        stress=stress,
        provenance={**provenance, "host": platform.node()},
    )
