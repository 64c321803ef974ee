"""Deletes what a durable event has superseded, so that a long run doesn't fill the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.state import State
from fhi_al.record.events import Advanced, Event, Labelled, Sampled, Trained


class Housekeeper:
    """Listens to the controller, and deletes files that no restart needs any more.

    With `keep_checkpoints: k`, every k-th checkpoint stays, and the walkers that go with it. With
    1, all walkers stay: the run can go back to every state that it ever had.

    Args:
        folder: of the run.
        past: the events so far.
    """

    def __init__(self, folder: RunFolder, past: Iterable[Event] = ()) -> None:
        self._folder = folder
        self._keep_every = folder.inputs.mace.misc.keep_checkpoints
        self._walkers: str | None = None
        self._kept: set[Path] = set()
        for event in past:
            self._note(event)

    def __call__(self, state: State, event: Event) -> None:
        """Clean up after an event that the journal has."""
        self._note(event)
        if isinstance(event, Trained):
            newest = self._folder.checkpoint(event.weights, 0)
            files = newest.parent.glob("train-*.pt")
            _delete(path for path in files if not self._stays(path, event.weights))
        elif isinstance(event, Advanced | Sampled) and event.walkers is not None:
            if self._keep_every == 1:
                return
            path = self._folder.walkers(event.walkers)
            kind = event.walkers.rpartition("-")[0]
            _delete(set(path.parent.glob(f"{kind}-*.h5")) - {path} - self._kept)
        elif isinstance(event, Labelled):
            # The label holds the structure itself.
            _delete([self._folder.structures.path(event.key)])

    def _note(self, event: Event) -> None:
        """Remember the walkers that go with a checkpoint that stays."""
        if isinstance(event, Advanced | Sampled):
            self._walkers = event.walkers
        elif isinstance(event, Trained) and self._walkers and self._is_kept(event.weights):
            self._kept.add(self._folder.walkers(self._walkers))

    def _stays(self, path: Path, newest: str) -> bool:
        weights = path.name.partition(".")[0].rpartition("-")[0]
        return weights == newest or self._is_kept(weights)

    def _is_kept(self, weights: str) -> bool:
        """Whether a checkpoint is one of every `keep_checkpoints`-th."""
        number = weights.rpartition("-")[2]
        return self._keep_every > 0 and number.isdigit() and int(number) % self._keep_every == 0


def _delete(files: Iterable[Path]) -> None:
    for path in files:
        # A file too much does no harm.
        with contextlib.suppress(OSError):
            path.unlink()
