"""Computing the structures of a dataset again: each is labelled, or rejected, and that is all."""

from __future__ import annotations

from itertools import islice

from fhi_al.procedures.state import State
from fhi_al.record.effects import Calculate, Effect
from fhi_al.record.events import Event, Sampled

_AHEAD = 1000
"""Structures that are asked for at a time: more than all groups hold, few enough to list often."""


def step(state: State, event: Event) -> None:
    """Take an event into the state."""
    if isinstance(event, Sampled):
        state.dataset = dict(zip(event.keys, event.compositions, strict=True))


def wanted(state: State) -> list[Effect]:
    """What should be running now."""
    waiting = (item for item in (state.dataset or {}).items() if item[0] not in state.outcomes)
    return [
        Calculate(id=f"label-{key}", key=key, purpose="dataset", composition=composition)
        for key, composition in islice(waiting, _AHEAD)
    ]


def settled(state: State) -> bool:
    """Whether every structure has an outcome."""
    return state.dataset is not None and len(state.outcomes) == len(state.dataset)
