"""Between the controller and the workers: one interface, in this process or through MPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from fhi_al.handlers.worker import EffectRunner, Slices, timed
from fhi_al.mpi.messages import TAG_EFFECT, TAG_EVENT, wait
from fhi_al.record.effects import Effect
from fhi_al.record.events import Event
from fhi_al.record.outcome import Worker


@dataclass(frozen=True)
class Hurry:
    """In place of an effect: finish what is in work, drop what is queued."""


@dataclass(frozen=True)
class Dropped:
    """In place of an event: the answer to `Hurry`.

    Attributes:
        count: effects that were queued.
    """

    count: int


class Channel(Protocol):
    """The controller's end of the way to one worker.

    Attributes:
        worker: at its other end, which does the effects of its role.
    """

    worker: Worker

    @property
    def free_slots(self) -> int:
        """How many more effects it takes now."""

    @property
    def idle(self) -> bool:
        """Whether it holds no effect."""

    @property
    def busy_here(self) -> bool:
        """Whether it needs this process's time: then `poll` does the work."""

    def submit(self, effect: Effect) -> None:
        """Hand over an effect. There must be a free slot."""

    def poll(self) -> list[Event]:
        """What has happened since the last call; never waits."""

    def hurry(self) -> None:
        """The run is about to stop: nothing that has not begun is to be begun."""

    def close(self) -> None:
        """Tell the worker to stop."""


class InlineChannel:
    """A worker in this process. It works while it is polled, one slice at a time.

    Args:
        worker: which.
        runner: does its work.
    """

    def __init__(self, worker: Worker, runner: EffectRunner) -> None:
        self.worker = worker
        self._runner = runner
        self._slices: Slices | None = None

    @property
    def free_slots(self) -> int:
        """One effect at a time."""
        return int(self._slices is None)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self._slices is None

    @property
    def busy_here(self) -> bool:
        """Whether there is a slice to do."""
        return self._slices is not None

    def submit(self, effect: Effect) -> None:
        """Begin an effect."""
        assert self._slices is None
        self._slices = timed(self._runner.run(effect), self.worker)

    def poll(self) -> list[Event]:
        """Do one slice."""
        if self._slices is None:
            return []
        try:
            next(self._slices)
        except StopIteration as end:
            self._slices = None
            return [end.value]
        return []

    def hurry(self) -> None:
        """Drop a reference calculation: between polls it has not begun. Hurry other work."""
        if self.worker.role == "reference":
            self._drop()
        else:
            self._runner.hurry()

    def close(self) -> None:
        """Close the worker."""
        self._drop()
        self._runner.close()

    def _drop(self) -> None:
        if self._slices is not None:
            self._slices.close()
            self._slices = None


class MpiChannel:
    """A worker group on other ranks, reached through its leader.

    Args:
        worker: the group.
        comm: communicator with this process and the leader.
        leader: its rank in `comm`.
        depth: effects that it may hold: one in work, the others queued.
    """

    busy_here = False

    def __init__(self, worker: Worker, comm: Any, leader: int, *, depth: int) -> None:
        self.worker = worker
        self._comm = comm
        self._leader = leader
        self._depth = depth
        self._held = 0
        self._sends: list[Any] = []

    @property
    def free_slots(self) -> int:
        """How many more effects the group takes."""
        return self._depth - self._held

    @property
    def idle(self) -> bool:
        """Whether the group has answered everything."""
        return self._held == 0

    def submit(self, effect: Effect) -> None:
        """Send an effect to the leader."""
        self._held += 1
        self._send(effect)

    def poll(self) -> list[Event]:
        """Receive the events that have arrived."""
        events: list[Event] = []
        while self._comm.iprobe(source=self._leader, tag=TAG_EVENT):
            message = self._comm.recv(source=self._leader, tag=TAG_EVENT)
            if isinstance(message, Dropped):
                self._held -= message.count
            else:
                self._held -= 1
                events.append(message)
        self._sends = [request for request in self._sends if not request.Test()]
        return events

    def hurry(self) -> None:
        """Have the group drop what it has queued."""
        self._send(Hurry())

    def close(self) -> None:
        """Tell the group to stop, and wait until the message has left."""
        self._send(None)
        for request in self._sends:
            wait(request)

    def _send(self, message: Effect | Hurry | None) -> None:
        self._sends.append(self._comm.isend(message, dest=self._leader, tag=TAG_EFFECT))
