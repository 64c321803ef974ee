"""Who did what, and when: a part of every outcome, so that the journal tells how ranks were used.

A journal without any of this, written by an earlier version, is read as before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Role = Literal["ML", "reference"]

_LOADED = time.monotonic()
_EPOCH = time.time() - _LOADED


def clock() -> float:
    """Seconds since 1970 that never go back, whatever is done to the system's clock."""
    return _EPOCH + time.monotonic()


def since_start() -> float:
    """Seconds since this process began to load the program."""
    return time.monotonic() - _LOADED


class _Worker(NamedTuple):
    role: Role
    number: int


class Worker(_Worker):
    """Something that carries out effects. As text, which is never read again, it is `ML 0`.

    Attributes:
        role: what it does, of the roles in `kinds.KINDS`.
        number: of the ML rank (0 comes with the controller), or of the group of reference ranks.
    """

    __slots__ = ()

    def __new__(cls, role: Role, number: int) -> Worker:
        """The same object each time: a long journal names its few workers at every turn."""
        new = super().__new__(cls, role, number)
        return _WORKERS.setdefault(new, new)

    def __str__(self) -> str:
        return f"{self.role} {self.number}"


_WORKERS: dict[Worker, Worker] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank runs, and as what.

    Attributes:
        host: name of its node.
        workers: that it is, or is part of; none: the rank has nothing to do.
        device: where its models or its reference calculations run.
        threads: that it uses.
    """

    host: str
    workers: tuple[Worker, ...]
    device: str
    threads: int


@dataclass(frozen=True, slots=True)
class Work:
    """One worker's part in an outcome.

    Attributes:
        worker: who; all ranks of a reference group are one.
        began: seconds since 1970.
        ended: seconds since 1970.
        busy: seconds of that in which it worked: it may have waited for other ranks, or shared its
            rank with another worker.
    """

    worker: Worker
    began: float
    ended: float
    busy: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an effect led to.

    Attributes:
        effect: its id.
        work: of the workers that took part.
    """

    effect: str
    work: tuple[Work, ...] = field(default=(), kw_only=True)
