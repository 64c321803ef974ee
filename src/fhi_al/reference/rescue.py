"""What is done about an SCF that fails: other settings, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fhi_al.atoms.structure import Label, Structure, structure_key
from fhi_al.errors import UnconvergedError
from fhi_al.reference.black_box import BlackBox
from fhi_al.reference.engine import Engine
from fhi_al.reference.integrity import check_net_force

if TYPE_CHECKING:
    from fhi_al.settings.control_in import ControlIn
    from fhi_al.settings.engine import ReferenceSettings


class RescuingEngine:
    """An engine that tries again, with other settings, what fails with the normal ones.

    Every attempt after the first is a fresh calculation, and so is the first one of the next
    structure. All ranks of a group come to the same decisions, as the label is the same on all.

    Args:
        kind: class of the engine.
        settings: the REFERENCE section.
        control: control.in, or None.
        elements: chemical symbols of the run.
        comm: the group's communicator, or None for a process alone.
        directory: of the group.
        max_net_force: largest net force on a molecule in eV/Å.
        black_box: watches over the library on this rank; None: nothing does.

    Attributes:
        device: where the reference runs: that of an engine which is a torch model, else `cpu`.

    Raises:
        InputError: the normal settings, or those of a rescue, can't work.
    """

    def __init__(
        self,
        kind: type[Engine],
        settings: ReferenceSettings,
        control: ControlIn | None,
        elements: Sequence[str],
        comm: Any,
        directory: Path,
        max_net_force: float,
        black_box: BlackBox | None = None,
    ) -> None:
        self._black_box = black_box
        self.parallel = settings.parallel
        self._max_net_force = max_net_force
        self._digest = kind.digest(settings, control, elements)
        self._engine: Engine = kind(settings, control, elements, comm, directory)
        self.device: str = getattr(self._engine, "device", "cpu")
        self._rescues: list[tuple[str, Engine]] = [
            (
                described(overrides),
                kind(*settings.rescued(control, overrides), elements, comm, directory),
            )
            for overrides in settings.rescues
        ]

    def atomic_energies(self) -> dict[str, float] | None:
        """See `Labeller.atomic_energies`."""
        return self._engine.atomic_energies()

    def label(self, structure: Structure) -> Label:
        """See `Labeller.label`; the provenance says by which rescue the label came about.

        Raises:
            UnconvergedError: with the story of all attempts.
        """
        if self._black_box is None:
            return self._label(structure)
        with self._black_box.recording(structure_key(structure, self._digest)):
            return self._label(structure)

    def _label(self, structure: Structure) -> Label:
        try:
            return self._attempt(self._engine, structure)
        except UnconvergedError as error:
            # Not the error itself, whose traceback would keep the whole calculation alive.
            kind, story = type(error), [str(error)]
        for settings, engine in self._rescues:
            try:
                label = self._attempt(engine, structure)
            except UnconvergedError as error:
                story.append(f"with {settings}: {error}")
                continue
            finally:
                engine.close()
            return dataclasses.replace(
                label,
                key=structure_key(structure, self._digest),
                provenance={**label.provenance, "rescue": settings, "attempts": 1 + len(story)},
            )
        raise _failure(kind, story)

    def close(self) -> None:
        """See `Labeller.close`."""
        self._engine.close()

    def _attempt(self, engine: Engine, structure: Structure) -> Label:
        try:
            label = engine.label(structure)
            check_net_force(label, self._max_net_force)
        except UnconvergedError:
            # No other calculation may start from this density, and a library must be gone before
            # the next attempt starts it with other settings.
            engine.close()
            raise
        return label


def _failure(kind: type[UnconvergedError], story: Sequence[str]) -> UnconvergedError:
    error = kind("; ".join(story))
    error.attempts = len(story)
    return error


def described(overrides: Mapping[str, object]) -> str:
    """Say in words with which settings an attempt is made."""
    if not overrides:
        return "a fresh start"
    return ", ".join(f"{name} {value}" for name, value in overrides.items())
