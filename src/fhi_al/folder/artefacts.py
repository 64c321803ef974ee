"""The files that events name, and which of them a restart needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fhi_al.procedures.run import begun, finished, moving_stage
from fhi_al.procedures.state import State
from fhi_al.record.labels import LabelStore, StructureStore


@dataclass(frozen=True)
class Artefacts:
    """Labels, structures, walkers and weights of one journal.

    Labels and structures are named by their contents. Walkers and weights carry the name of the
    run, so that those of another journal are not mistaken for its own.

    Attributes:
        restart: the folder `restart/`.
        checkpoints: the folder of the weights.
        run: name of the run, in the journal's first event; empty in journals of old versions.
    """

    restart: Path
    checkpoints: Path
    run: str

    @cached_property
    def labels(self) -> LabelStore:
        """Finished labels."""
        return LabelStore(self.restart / "labels")

    @cached_property
    def structures(self) -> StructureStore:
        """Structures that wait for a label."""
        return StructureStore(self.restart / "structures")

    def walkers(self, name: str) -> Path:
        """The walkers file of this name."""
        return self.restart / "walkers" / f"{self._own(name)}.h5"

    def checkpoint(self, weights: str, member: int) -> Path:
        """One member's part of a checkpoint of the committee."""
        return self.checkpoints / f"{self._own(f'{weights}-{member}')}.pt"

    def _own(self, name: str) -> str:
        return f"{name}.{self.run}" if self.run else name


def needed_walkers(state: State) -> list[str]:
    """Names of the walkers files that the next molecular dynamics begins with."""
    stage = moving_stage(state)
    return list(stage.walkers(stage.own(state))) if stage is not None else []


def needed_structures(state: State) -> Iterator[str]:
    """Keys of the structures that wait for a label."""
    yield from state.books.retries
    for stage in begun(state):
        yield from stage.structures(state, stage.own(state))


class Inventory:
    """What is there, looked up once.

    Args:
        artefacts: where to look.
    """

    def __init__(self, artefacts: Artefacts) -> None:
        self._artefacts = artefacts
        stores = (artefacts.labels.folder, artefacts.structures.folder)
        folders = (artefacts.restart / "walkers", artefacts.checkpoints)
        self._there = {
            path
            for folder, pattern in (
                *((folder, "*/*.h5") for folder in stores),
                *((folder, "*") for folder in folders),
            )
            for path in folder.glob(pattern)
        }

    def missing_label(self, key: str) -> Path | None:
        """The file of this label, if it isn't there."""
        return self._missing(self._artefacts.labels.path(key))

    def missing(self, state: State) -> list[Path]:
        """Files, besides labels, that the state needs to go on and that are not there."""
        if finished(state):
            return []
        own = self._artefacts
        paths = [own.walkers(name) for name in needed_walkers(state)]
        if state.books.weights is not None:
            members = range(state.rules.ensemble_size)
            paths += [own.checkpoint(state.books.weights, member) for member in members]
        paths += [
            own.structures.path(key)
            for key in needed_structures(state)
            if self.missing_label(key)  # else it has its label, which holds the structure
        ]
        return [path for path in paths if path not in self._there]

    def _missing(self, path: Path) -> Path | None:
        return None if path in self._there else path


def missing_artefacts(state: State, artefacts: Artefacts) -> list[Path]:
    """All files that the state needs to go on and that are not there."""
    inventory = Inventory(artefacts)
    labels = (
        inventory.missing_label(key) for key, labelled in state.books.outcomes.items() if labelled
    )
    return [*(path for path in labels if path is not None), *inventory.missing(state)]
