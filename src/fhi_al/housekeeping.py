"""Deletes what a durable event has superseded, so that a long run doesn't fill the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fhi_al.events import Advanced, Event, Labelled, Sampled, Trained
from fhi_al.procedures.state import State
from fhi_al.run_folder import RunFolder

_NUMBER = re.compile(r"-(\d+)(-\d+)?\.")


class Housekeeper:
    """Listens to the controller, and deletes files that no restart needs any more.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._keep_every = folder.inputs.mace.misc.keep_checkpoints

    def __call__(self, state: State, event: Event) -> None:
        """Clean up after an event that the journal has."""
        if isinstance(event, Trained):
            self._clean_checkpoints(event.weights)
        elif isinstance(event, Advanced | Sampled) and event.walkers is not None:
            path = self._folder.walkers(event.walkers)
            kind = event.walkers.rpartition("-")[0]
            _delete_all_but({path}, path.parent.glob(f"{kind}-*.h5"))
        elif isinstance(event, Labelled):
            # The label holds the structure itself.
            self._folder.structures.path(event.key).unlink(missing_ok=True)

    def _clean_checkpoints(self, newest: str) -> None:
        folder = self._folder.checkpoint(newest, 0).parent
        kept = set(folder.glob(f"{newest}-*.pt"))
        if self._keep_every:
            kept |= {path for path in folder.glob("train-*.pt") if not self._passes(path)}
        _delete_all_but(kept, folder.glob("train-*.pt"))

    def _passes(self, path: Path) -> bool:
        """Whether a checkpoint is not one of every `keep_checkpoints`-th."""
        match = _NUMBER.search(path.name)
        return match is None or int(match[1]) % self._keep_every != 0


def _delete_all_but(kept: set[Path], files: Iterable[Path]) -> None:
    for path in list(files):
        if path not in kept:
            path.unlink(missing_ok=True)
