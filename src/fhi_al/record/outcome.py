"""Who did what, and when: a part of every outcome, so that the journal tells how ranks were used.

The worker says when it worked, its channel says who it is. A journal without any of this, written
by an earlier version, is read as before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

_LOADED = time.monotonic()
_EPOCH = time.time() - _LOADED


def clock() -> float:
    """Seconds since 1970 that never go back, whatever is done to the system's clock."""
    return _EPOCH + time.monotonic()


def since_start() -> float:
    """Seconds since this process began to load the program."""
    return time.monotonic() - _LOADED


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank runs, and as what.

    Attributes:
        host: name of its node.
        workers: that it is, or is part of, as `Started` names them: `ml` (which comes with the
            controller), `ml1`, ..., `reference0`, ...; none: the rank has nothing to do.
        device: where its models or its reference calculations run.
        threads: that it uses.
    """

    host: str
    workers: tuple[str, ...]
    device: str
    threads: int


@dataclass(frozen=True, slots=True)
class Work:
    """One worker's part in an outcome.

    Attributes:
        worker: its name; all ranks of a reference group work together under one.
        began: seconds since 1970.
        ended: seconds since 1970.
        busy: seconds of that in which it worked: it may have waited for other ranks, or shared its
            rank with another worker.
    """

    worker: str
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
