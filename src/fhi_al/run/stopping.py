"""Being asked to stop: signals, on whichever rank they arrive."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from fhi_al.mpi.messages import TAG_STOP

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class Signals:
    """The signals that ask this process to stop. They are noted; loops look between two slices.

    Attributes:
        received: name of the first one, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    def listen(self) -> None:
        """Note signals from now on; those that the process was started to ignore stay ignored."""
        for number in _ASKING:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)
                # Compiled libraries don't expect that a signal interrupts their system calls.
                signal.siginterrupt(number, False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        # Who presses Ctrl-C again means it; inside a library, too, which Python can't interrupt.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class Forwarder:
    """Tells the controller of a signal that another rank has received.

    Args:
        signals: of this rank.
        comm: of all ranks.
    """

    def __init__(self, signals: Signals, comm: Any) -> None:
        self._signals = signals
        self._comm = comm
        self._request: Any = None

    def __call__(self) -> None:
        """Look whether there was a signal, and send it, once."""
        if self._signals.received and self._request is None:
            message = f"{self._signals.received} on rank {self._comm.rank}"
            self._request = self._comm.isend(message, dest=0, tag=TAG_STOP)


class StopRequests:
    """All ways to ask the controller to stop.

    Args:
        signals: of its own process.
        comm: of all ranks, or None.
        time_is_up: says why, when the walltime is about to end.
    """

    def __init__(
        self, signals: Signals, comm: Any, time_is_up: Callable[[], str | None] = lambda: None
    ) -> None:
        self._signals = signals
        self._comm = comm if comm is not None and comm.size > 1 else None
        self._time_is_up = time_is_up

    def __call__(self) -> str | None:
        """Why to stop, or None."""
        return self._signals.received or self._forwarded() or self._time_is_up()

    def _forwarded(self) -> str | None:
        if self._comm is None:
            return None
        from mpi4py import MPI

        if not self._comm.iprobe(source=MPI.ANY_SOURCE, tag=TAG_STOP):
            return None
        message: str = self._comm.recv(source=MPI.ANY_SOURCE, tag=TAG_STOP)
        return message
