"""What a worker does: carry out effects, a slice at a time."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from fhi_al.mpi.messages import Patience
from fhi_al.record.effects import Effect
from fhi_al.record.events import Event
from fhi_al.record.kinds import KINDS
from fhi_al.record.outcome import Outcome, Work, Worker, clock

Slices = Generator[None, None, Event]
"""Work in small parts: yields between them, returns the event that tells the outcome."""


class EffectRunner(Protocol):
    """Something that can carry out effects."""

    def run(self, effect: Effect) -> Slices:
        """Carry out an effect in slices."""

    def hurry(self) -> None:
        """The run is about to stop: end what is in work early, where that loses nothing."""

    def close(self) -> None:
        """Let go of libraries and files."""


def handled(runner: EffectRunner, effect: Effect) -> Slices:
    """Carry out an effect by the handler of its kind, which is imported on first use."""
    slices: Slices = pkgutil.resolve_name(KINDS[type(effect)].handler)(runner, effect)
    return slices


def timed(slices: Slices, worker: Worker) -> Slices:
    """Do work in slices, and note in its outcome who did it, when, and how long it took.

    Neither the time between slices nor waiting for other ranks counts as work.
    """
    began, busy = clock(), 0.0
    with closing(slices):
        while True:
            start, slept = time.perf_counter(), Patience.slept
            event: Event | None = None
            try:
                next(slices)
            except StopIteration as end:
                event = end.value
            busy += time.perf_counter() - start - (Patience.slept - slept)
            if event is not None:
                break
            yield
    if isinstance(event, Outcome):
        # Times to 0.1 ms, as in the journal: more digits only make it longer.
        own = Work(worker, round(began, 4), round(clock(), 4), round(busy, 4))
        event = replace(event, work=(own, *event.work))
    return event
