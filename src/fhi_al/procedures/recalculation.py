"""Computing the structures of a dataset again: each is labelled, or rejected, and that is all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from fhi_al.procedures.procedure import Stage
from fhi_al.procedures.state import State
from fhi_al.procedures.stop import Tally
from fhi_al.record.effects import Calculate, Effect
from fhi_al.record.events import Event, Sampled

_AHEAD = 1000
"""Structures that are asked for at a time: more than all groups hold, few enough to list often."""


@dataclass
class DatasetState:
    """A dataset to be computed again.

    Attributes:
        structures: key -> composition; None: not known yet.
    """

    structures: dict[str, str] | None = None


class RecalculationStage(Stage[DatasetState]):
    """Labels the structures of a dataset."""

    def begin(self, state: State) -> DatasetState:
        """The command that knows the dataset says what is in it."""
        return DatasetState()

    def step(self, state: State, own: DatasetState, event: Event) -> None:
        """Take an event into the state."""
        if isinstance(event, Sampled):
            own.structures = dict(zip(event.keys, event.compositions, strict=True))

    def wanted(self, state: State, own: DatasetState) -> list[Effect]:
        """What should be running now."""
        known, outcomes = own.structures or {}, state.books.outcomes
        waiting = (item for item in known.items() if item[0] not in outcomes)
        return [
            Calculate(id=f"label-{key}", key=key, purpose="dataset", composition=composition)
            for key, composition in islice(waiting, _AHEAD)
        ]

    def settled(self, state: State, own: DatasetState) -> bool:
        """Whether every structure has an outcome."""
        return own.structures is not None and len(state.books.outcomes) == len(own.structures)

    def words_for(self, state: State, own: DatasetState, event: Event) -> str | None:
        """The dataset."""
        if isinstance(event, Sampled):
            return f"{len(event.keys)} different structures to be computed"
        return None

    def reopens(self, state: State, own: DatasetState) -> bool:
        """Where some structures have no outcome any more."""
        return not self.settled(state, own)

    def structures(self, state: State, own: DatasetState) -> Iterator[str]:
        """Those without an outcome."""
        return (key for key in own.structures or () if key not in state.books.outcomes)

    def progress(self, state: State, own: DatasetState) -> dict[str, Tally]:
        """Structures with an outcome."""
        if own.structures is None:
            return {}
        return {"structures": Tally(len(state.books.outcomes), len(own.structures))}

    def remaining(self, state: State, own: DatasetState) -> str:
        """How many are left."""
        return f"to be computed: {len(own.structures or ()) - len(state.books.outcomes)}"


RECALCULATION = RecalculationStage(
    "recalculation", "Recalculating a dataset", "recalculate.log", "recalculation"
)
