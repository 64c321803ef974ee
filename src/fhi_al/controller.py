"""The one impure loop: hand out what is wanted, write down what happened, and again."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence

from fhi_al.effects import Effect, Evaluate, Export, Train
from fhi_al.errors import FhiAlError
from fhi_al.events import Closed, Event, Failed, Started
from fhi_al.journal import Journal
from fhi_al.parallel.batching import Batching
from fhi_al.parallel.channels import Channel, Patience
from fhi_al.procedures.run import finished, step, wanted
from fhi_al.procedures.state import State


class WorkerError(Exception):
    """A rank broke down. The journal knows; the job has to end."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.error)
        self.failed = failed


Listener = Callable[[State, Event], None]


class Controller:
    """Drives the procedures to their goal.

    Args:
        state: after all events in the journal.
        journal: takes each event before the state does.
        channels: to the workers.
        listeners: told of each event, after the state has taken it; they decide nothing.

    Attributes:
        state: what follows from the journal.
    """

    def __init__(
        self,
        state: State,
        journal: Journal,
        channels: Sequence[Channel],
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.state = state
        self.journal = journal
        self.channels = channels
        self.listeners = listeners
        self._batching = Batching()

    def run(self) -> None:
        """Work until the goal is reached.

        Raises:
            FhiAlError: the procedures can't go on; the journal is closed properly.
            WorkerError: a rank broke down.
        """
        patience = Patience()
        self._submit()
        while not finished(self.state):
            if self.state.failure:
                self._close(self.state.failure)
                raise FhiAlError(self.state.failure)
            events = [event for channel in self.channels for event in channel.poll()]
            if events:
                self.record(*events)
                for event in events:
                    if isinstance(event, Failed):
                        raise WorkerError(event)
                self._submit()
            if events or any(channel.busy_here for channel in self.channels):
                patience.reset()
            elif not self.state.in_flight:
                self._close("nothing to do")
                raise FhiAlError(
                    f"the stage {self.state.stage} has nothing to do but is not finished; this is "
                    "an error of the program: please report it with restart/journal.jsonl"
                )
            else:
                patience.wait()
        self._close("finished")

    def record(self, *events: Event) -> None:
        """Believe events: journal first, then state, then listeners."""
        self.journal.append(*events)
        for event in events:
            self.state = step(self.state, event)
            for listener in self.listeners:
                listener(self.state, event)

    def _submit(self) -> None:
        """Hand out wanted effects to whoever has room, the most urgent first."""
        sequential = not self.state.rules.asynchronous
        room = {channel: channel.room for channel in self.channels}
        chosen: list[tuple[Effect, Channel]] = []
        waiting = deque(e for e in wanted(self.state) if e.id not in self.state.in_flight)
        while waiting and any(room.values()):
            if sequential and (chosen or self.state.in_flight):
                break
            effect = waiting.popleft()
            able = [channel for channel in self.channels if channel.takes(effect) and room[channel]]
            if not able:
                continue
            channel = max(able, key=lambda c: (room[c], self._batching.fits(c.name, effect)))
            better = effect if sequential else self._batching.choose(channel.name, effect, waiting)
            if better is not effect:
                waiting.remove(better)
                waiting.appendleft(effect)
                effect = better
            self._batching.note(channel.name, effect)
            room[channel] -= 1
            chosen.append((effect, channel))
        if chosen:
            self.record(*(Started(effect.id, channel.name) for effect, channel in chosen))
        for effect, channel in chosen:
            channel.submit(_snapshot(effect))

    def _close(self, reason: str) -> None:
        self.record(Closed(reason, time.time()))


def _snapshot(effect: Effect) -> Effect:
    """The effect with the datasets as they are now; the state's own list grows on."""
    if isinstance(effect, Train | Evaluate | Export):
        return dataclasses.replace(effect, entries=tuple(effect.entries))
    return effect
