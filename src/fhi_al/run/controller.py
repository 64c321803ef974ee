"""The one impure loop: hand out what is wanted, write down what happened, and again."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from fhi_al.errors import FhiAlError, StoppedError, StorageError
from fhi_al.mpi.messages import Look, Patience
from fhi_al.procedures.run import finished, stage_words, step, wanted
from fhi_al.procedures.state import State
from fhi_al.record.effects import Effect, Evaluate, Export, Select, Train
from fhi_al.record.events import Closed, Event, Failed, Started
from fhi_al.record.journal import Journal
from fhi_al.record.kinds import role_of
from fhi_al.run.remembered import Remembered
from fhi_al.run.walltime import Walltime
from fhi_al.workers.batching import Batching
from fhi_al.workers.channels import Channel
from fhi_al.workers.serve import describe_failure


class WorkerError(Exception):
    """A rank broke down. The journal knows; the job has to end."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.error)
        self.failed = failed


log = logging.getLogger(__name__)

Listener = Callable[[State, Event], None]

GRACE_S = 8.0
"""How long work in hand may take to end after the run was asked to stop."""


class Controller:
    """Drives the procedures to their goal.

    Args:
        state: after all events in the journal.
        journal: takes each event before the state does.
        channels: to the workers.
        listeners: told of each event, after the state has taken it; they decide nothing.
        stop: says why to stop, when the run is asked to.
        walltime: nothing is begun that would not end in time.
        finish_reference: reference calculations in work are waited for, however long they take.
        failures: what ranks that broke down have told since the last call.
        look: called between two looks at the channels; for what shows the run to the user.

    Attributes:
        state: what follows from the journal.
    """

    def __init__(
        self,
        state: State,
        journal: Journal,
        channels: Sequence[Channel],
        listeners: Sequence[Listener] = (),
        *,
        stop: Callable[[], str | None] = lambda: None,
        walltime: Walltime | None = None,
        finish_reference: bool = False,
        failures: Callable[[], Sequence[Failed]] = lambda: (),
        look: Look = lambda: None,
    ) -> None:
        self.state = state
        self.journal = journal
        self.channels = channels
        self.listeners = listeners
        self._batching = Batching()
        self._remembered = Remembered()
        self._stop = stop
        self._walltime = walltime or Walltime(None, 0.0)
        self._finish_reference = finish_reference
        self._failures = failures
        self._look = look
        self._too_late = False
        self._closed = False

    def run(self) -> None:
        """Work until the goal is reached.

        Raises:
            StoppedError: the run was asked to stop.
            FhiAlError: the procedures, a file or a worker here can't go on; the journal knows why.
            WorkerError: a rank broke down.
        """
        try:
            with contextlib.closing(self._remembered):
                self._run()
        except (StoppedError, WorkerError):
            raise
        except Exception as error:
            if not self._closed:
                # What was in work is not to blame. Of the journal itself, more can't be asked.
                with contextlib.suppress(StorageError):
                    self.journal.append(describe_failure(0, error))
            raise

    def _run(self) -> None:
        patience = Patience()
        unanswered = True
        while not finished(self.state):
            if self.state.books.failure:
                self._close(self.state.books.failure)
                raise FhiAlError(self.state.books.failure)
            if reason := self._stop():
                self._wind_down(reason)
                break
            if unanswered:
                self._submit()
            # Other ranks first: a slice of the work here may take as long as an optimizer step.
            came = self._poll(c for c in self.channels if not c.busy_here)
            if came:
                self._submit()
            unanswered = bool(self._poll(c for c in self.channels if c.busy_here))
            if came or unanswered or any(channel.busy_here for channel in self.channels):
                patience.reset()
            elif self._too_late and not self.state.books.in_flight:
                self._wind_down("nothing more can end within the walltime")
            elif not self.state.books.in_flight:
                self._close("nothing to do")
                raise FhiAlError(
                    f"the stage {stage_words(self.state)} has nothing to do but is not finished; "
                    "this is an error of the program: please report it with restart/journal.jsonl"
                )
            else:
                patience.wait()
        self._close("finished")

    def _poll(self, channels: Iterable[Channel]) -> list[Event]:
        self._look()
        events: list[Event] = [*self._failures()]
        events += (event for channel in channels for event in channel.poll())
        if events:
            self.record(*events)
        for event in events:
            if isinstance(event, Failed):
                raise WorkerError(event)
        return events

    def _wind_down(self, reason: str) -> None:
        """Let work in hand end if it is soon, and stop; returns only if that was the goal.

        Training that can't end soon is given up, as is a reference calculation: they begin again
        with the next command.
        """
        log.info("Stopping: %s", reason)
        # At once: what a launcher, or the user, does to this process next is then explained.
        self._close(reason)
        for channel in self.channels:
            channel.hurry()
        patience = Patience()
        deadline = time.monotonic() + GRACE_S
        came = False
        while busy := [channel for channel in self.channels if not channel.idle]:
            if time.monotonic() > deadline and not (
                self._finish_reference
                and any(channel.worker.role == "reference" for channel in busy)
            ):
                break
            if self._poll(self.channels):
                came = True
            elif not any(channel.busy_here for channel in busy):
                patience.wait()
        if not finished(self.state):
            if came:
                self._close(reason)
            raise StoppedError(reason)

    def record(self, *events: Event) -> None:
        """Believe events: journal first, then state, then listeners."""
        self.journal.append(*events)
        self._walltime.learn(events)
        for event in events:
            self.state = step(self.state, event)
            for listener in self.listeners:
                listener(self.state, event)
        self._remembered.note(len(events))

    def _submit(self) -> None:
        """Hand out wanted effects to whoever has a free slot, the most urgent first."""
        sequential = not self.state.rules.asynchronous
        free_slots = {channel: channel.free_slots for channel in self.channels}
        # Of hundreds of channels, few have one.
        free = [channel for channel in self.channels if free_slots[channel]]
        self._too_late = False
        chosen: list[tuple[Effect, Channel]] = []
        waiting = deque(e for e in wanted(self.state) if e.id not in self.state.books.in_flight)
        while waiting and free:
            if sequential and (chosen or self.state.books.in_flight):
                break
            effect = waiting.popleft()
            able = [channel for channel in free if channel.worker.role == role_of(effect)]
            if not able:
                continue
            channel = max(
                able, key=lambda c: (free_slots[c], self._batching.fits(c.worker, effect))
            )
            worker = channel.worker
            better = effect if sequential else self._batching.choose(worker, effect, waiting)
            if better is not effect:
                waiting.remove(better)
                waiting.appendleft(effect)
                effect = better
            ahead = int(not channel.idle) + channel.free_slots - free_slots[channel]
            if not self._walltime.has_time_for(effect, ahead):
                self._too_late = True
                if sequential:
                    break  # what comes next in line has to wait for it
                continue
            self._batching.note(worker, effect)
            free_slots[channel] -= 1
            if not free_slots[channel]:
                free.remove(channel)
            chosen.append((effect, channel))
        if chosen:
            self.record(
                *(
                    Started(effect.id, channel.worker, type(effect).__name__)
                    for effect, channel in chosen
                )
            )
        for effect, channel in chosen:
            channel.submit(_snapshot(effect))

    def _close(self, reason: str) -> None:
        self.record(Closed(reason, time.time()))
        self._closed = True


def _snapshot(effect: Effect) -> Effect:
    """The effect with the datasets as they are now; the state's own list grows on."""
    if isinstance(effect, Train | Evaluate | Export | Select):
        return dataclasses.replace(effect, entries=tuple(effect.entries))
    return effect
