"""Messages between ranks that burn no core.

No rank waits in a blocking MPI call, as the reference could use its core. Waiting means looking,
sleeping a little, and looking again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

Look = Callable[[], None]
"""What a rank looks after between slices of its work, and every few milliseconds of waiting."""


TAG_EFFECT = 1


TAG_EVENT = 2


TAG_FAILED = 3


TAG_START = 4


TAG_STOP = 7


class Patience:
    """Sleeps that grow from 0.1 ms to 5 ms while nothing happens.

    Attributes:
        slept: seconds that this process has spent so.
    """

    _SHORTEST = 1e-4
    _LONGEST = 5e-3
    slept: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self._pause = self._SHORTEST

    def reset(self) -> None:
        """Something happened: look again soon."""
        self._pause = self._SHORTEST

    def wait(self) -> None:
        """Sleep, longer each time."""
        began = time.perf_counter()
        time.sleep(self._pause)
        Patience.slept += time.perf_counter() - began
        self._pause = min(2 * self._pause, self._LONGEST)


def wait(request: Any) -> None:
    """Wait for an MPI request without burning a core."""
    patience = Patience()
    while not request.Test():
        patience.wait()


def receive(comm: Any, source: int, tag: int, look: Look = lambda: None) -> Any:
    """Receive a Python object without burning a core; `look` is called while waiting."""
    patience = Patience()
    while not comm.iprobe(source=source, tag=tag):
        look()
        patience.wait()
    return comm.recv(source=source, tag=tag)


def send(comm: Any, message: Any, dest: int, tag: int) -> None:
    """Send a Python object without burning a core."""
    wait(comm.isend(message, dest=dest, tag=tag))


def share(comm: Any, message: Any, root: int = 0, look: Look = lambda: None) -> Any:
    """Give every rank the root's object (a broadcast that sleeps). Collective.

    Args:
        comm: of the ranks, or None.
        message: of the root; ignored elsewhere.
        root: who gives.
        look: called while waiting.
    """
    if comm is None or comm.size == 1:
        return message
    if comm.rank != root:
        return receive(comm, root, TAG_START, look)
    others = [rank for rank in range(comm.size) if rank != root]
    for request in [comm.isend(message, dest=rank, tag=TAG_START) for rank in others]:
        wait(request)
    return message


def gather(comm: Any, message: Any) -> list[Any]:
    """Give every rank all ranks' objects, in rank order (a sleeping allgather). Collective."""
    if comm is None or comm.size == 1:
        return [message]
    if comm.rank != 0:
        send(comm, message, 0, TAG_START)
        return list(receive(comm, 0, TAG_START))
    everyone = [message] + [receive(comm, rank, TAG_START) for rank in range(1, comm.size)]
    return list(share(comm, everyone))
