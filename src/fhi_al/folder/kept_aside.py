"""Files that tell of the structures that no model is trained on, and of those that fell apart."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fhi_al.errors import JournalError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.state import Rejection, State
from fhi_al.record.events import Event, Exported
from fhi_al.record.files import write_xyz

if TYPE_CHECKING:
    from ase import Atoms

log = logging.getLogger(__name__)

REJECTED, UNSTABLE = "rejected.xyz", "unstable.xyz"


class KeptAside:
    """Listens to the controller, and keeps two files beside the datasets.

    `rejected.xyz` has the structures without a usable label, `unstable.xyz` the last sane frames of
    trajectories that broke down, each with its story in the comment line. Both follow from the
    journal and are written anew, so that they are right again after any kill.

    Args:
        folder: of the run.
        state: at the start of this command.
    """

    def __init__(self, folder: RunFolder, state: State) -> None:
        self._folder = folder
        self._frames: dict[tuple[str, str], Atoms] = {}
        self._written = (0, 0)
        self._write(state)

    def __call__(self, state: State, event: Event) -> None:
        """Write the files where an event has changed what they tell."""
        if self._written != _sizes(state) or isinstance(event, Exported):
            self._write(state)

    def _write(self, state: State) -> None:
        self._write_one(
            REJECTED, ((key, _told(about)) for key, about in state.books.rejected.items())
        )
        self._write_one(
            UNSTABLE,
            (
                (
                    key,
                    {
                        "reason": candidate.detail,
                        "trajectory": candidate.trajectory,
                        "step": candidate.step,
                        "uncertainty": candidate.uncertainty,
                        "threshold": candidate.threshold,
                    },
                )
                for key, candidate in state.books.unstable.items()
            ),
        )
        self._written = _sizes(state)

    def _write_one(self, name: str, stories: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        path = self._folder.data / name
        frames = [frame for key, about in stories if (frame := self._frame(name, key, about))]
        if frames:
            write_xyz(path, frames)
        else:
            path.unlink(missing_ok=True)

    def _frame(self, name: str, key: str, about: Mapping[str, Any]) -> Atoms | None:
        if (name, key) not in self._frames:
            try:
                self._frames[name, key] = self._read(key)
            except JournalError as error:
                log.warning("%s goes without a structure: %s", name, error)
                return None
        atoms = self._frames[name, key]
        # Words alone: the format has one line for all of it.
        atoms.info.update(
            (f"fhi_al_{field}", " ".join(value.split()) if isinstance(value, str) else value)
            for field, value in {"key": key, **about}.items()
            if value is not None
        )
        return atoms

    def _read(self, key: str) -> Atoms:
        """The structure; if it has a label, with that, by names that nobody trains on."""
        if not self._folder.labels.has(key):
            return self._folder.structures.get(key)[0].to_atoms()
        label = self._folder.labels.get(key)
        atoms = label.structure.to_atoms()
        atoms.info["fhi_al_energy"] = label.energy
        atoms.arrays["fhi_al_forces"] = label.forces.copy()
        return atoms


def _told(about: Rejection) -> dict[str, Any]:
    plain = asdict(about)
    return {**plain, **plain.pop("origin")}


def _sizes(state: State) -> tuple[int, int]:
    return len(state.books.rejected), len(state.books.unstable)
