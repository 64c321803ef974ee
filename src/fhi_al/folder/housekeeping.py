"""Deletes what a durable event has superseded, so that a long run doesn't fill the disk."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from fhi_al.folder.artefacts import needed_structures, needed_walkers
from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.state import State
from fhi_al.record.events import Advanced, Event, Labelled, Sampled, Selected, Trained


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
        self._n_trained = 0
        self._newest: str | None = None
        self._kept: set[str] = set()
        # Names that events gave, oldest first, with the number of members of a checkpoint.
        self._checkpoints: list[tuple[str, int]] = []
        self._walkers: defaultdict[object, list[str]] = defaultdict(list)
        for event in past:
            self._note(event)
        self._forget_what_is_gone()

    def __call__(self, state: State, event: Event) -> None:
        """Clean up after an event that the journal has."""
        self._note(event)
        if isinstance(event, Trained):
            for checkpoint in self._checkpoints:
                if checkpoint[0] != event.weights:
                    _delete(self._parts(*checkpoint))
            self._checkpoints = [c for c in self._checkpoints if c[0] == event.weights]
        elif isinstance(event, Advanced | Sampled) and event.walkers is not None:
            if self._keep_every == 1:
                return
            names, stays = self._walkers[_series(event)], {event.walkers, *needed_walkers(state)}
            _delete(self._folder.walkers(name) for name in names if name not in stays | self._kept)
            self._walkers[_series(event)] = [name for name in names if name in stays]
        elif isinstance(event, Labelled):
            # The label holds the structure itself.
            _delete([self._folder.structures.path(event.key)])
        elif isinstance(event, Selected):
            dropped = {key for key, _ in event.dropped} - {*needed_structures(state)}
            _delete(self._folder.structures.path(key) for key in dropped)

    def _note(self, event: Event) -> None:
        """Remember what may be deleted later, and the walkers that go with a kept checkpoint."""
        if isinstance(event, Advanced | Sampled):
            self._newest = event.walkers
            if event.walkers is not None:
                self._walkers[_series(event)].append(event.walkers)
        elif isinstance(event, Trained):
            if self._keep_every > 0 and self._n_trained % self._keep_every == 0:
                if self._newest is not None:
                    self._kept.add(self._newest)
            else:
                self._checkpoints.append((event.weights, len(event.members)))
            self._n_trained += 1

    def _forget_what_is_gone(self) -> None:
        """Forget the files that commands before this one have deleted: all but a few."""
        there = set(self._folder.walkers("").parent.glob("*"))
        few = len(there) <= len(self._walkers)  # then it is the newest of each series
        for series, names in self._walkers.items():
            self._walkers[series] = [
                name
                for name in (names[-1:] if few else names)
                if self._folder.walkers(name) in there
            ]
        there = set(self._folder.checkpoint("", 0).parent.glob("*"))
        few = bool(self._checkpoints) and len(there) <= self._checkpoints[-1][1]
        self._checkpoints = [
            checkpoint
            for checkpoint in (self._checkpoints[-1:] if few else self._checkpoints)
            if not there.isdisjoint(self._parts(*checkpoint))
        ]

    def _parts(self, weights: str, members: int) -> Sequence[Path]:
        return [self._folder.checkpoint(weights, member) for member in range(members)]


def _series(event: Advanced | Sampled) -> object:
    """Equal where the walkers of the one event take the place of the other's."""
    return event.geometry if isinstance(event, Sampled) else Advanced


def _delete(files: Iterable[Path]) -> None:
    for path in files:
        # A file too much does no harm.
        with contextlib.suppress(OSError):
            path.unlink()
