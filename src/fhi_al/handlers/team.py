"""Molecular dynamics shared between ML ranks: each moves its trajectories, one rank decides.

All ranks go from check to check together, so that the threshold sees the uncertainties in the
same order however many ranks there are.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

from fhi_al.atoms.structure import FloatArray, Structure
from fhi_al.md.shard import Frame, Shard
from fhi_al.md.walker import Walkers
from fhi_al.mpi.messages import Patience

TAG_MOVE = 5
TAG_REPORT = 6


@dataclass(frozen=True)
class Report:
    """A part of the walkers at a check.

    Attributes:
        frames: one a walker, in order.
        structures: of the walkers, each with the (atoms, 3) forces predicted for it in eV/Å.
        walkers: as they are now.
    """

    frames: list[Frame]
    structures: list[tuple[Structure, FloatArray | None]]
    walkers: Walkers


class Part(Protocol):
    """Some of the walkers of an `Advance`, wherever they are moved."""

    def begin(self, n_steps: int) -> None:
        """Set them going."""

    def report(self) -> Generator[None, None, Report]:
        """Wait until they are at the check; yields meanwhile."""

    def end(self) -> None:
        """They will not be moved any more."""


class LocalPart:
    """Walkers that this process moves.

    Args:
        shard: with the walkers.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._n_steps = 0

    def begin(self, n_steps: int) -> None:
        """Set them going: at the next `report`, as this process has nobody else to do it."""
        self._n_steps = n_steps

    def report(self) -> Generator[None, None, Report]:
        """Move them to the check; yields after every MD step."""
        shard = self._shard
        frames = yield from shard.advance(self._n_steps)
        return Report(frames, [shard.structure(i) for i in range(len(frames))], shard.walkers)

    def end(self) -> None:
        """Nothing to let go of."""


class RemotePart:
    """Walkers that another rank moves, by `follow`.

    Args:
        comm: communicator of the ML ranks.
        rank: of the other one.
    """

    def __init__(self, comm: Any, rank: int) -> None:
        self._comm = comm
        self._rank = rank
        self._sends: list[Any] = []

    def begin(self, n_steps: int) -> None:
        """Set them going."""
        self._send(n_steps)

    def report(self) -> Generator[None, None, Report]:
        """Wait for the other rank; yields meanwhile."""
        report: Report = yield from _received(self._comm, self._rank, TAG_REPORT)
        return report

    def end(self) -> None:
        """Let the other rank go."""
        self._send(None)

    def _send(self, message: int | None) -> None:
        self._sends = [request for request in self._sends if not request.Test()]
        self._sends.append(self._comm.isend(message, dest=self._rank, tag=TAG_MOVE))


def follow(shard: Shard, comm: Any, leader: int = 0) -> Generator[None, None, None]:
    """Move walkers as the leading rank says, until it says that it is enough.

    Args:
        shard: with the walkers.
        comm: communicator of the ML ranks.
        leader: the rank that decides.

    Yields:
        After every MD step, and while waiting.
    """
    part = LocalPart(shard)
    while (n_steps := (yield from _received(comm, leader, TAG_MOVE))) is not None:
        part.begin(n_steps)
        report = yield from part.report()
        request = comm.isend(report, dest=leader, tag=TAG_REPORT)
        while not request.Test():
            yield


def _received(comm: Any, source: int, tag: int) -> Generator[None, None, Any]:
    patience = Patience()
    while not comm.iprobe(source=source, tag=tag):
        patience.wait()
        yield
    return comm.recv(source=source, tag=tag)
