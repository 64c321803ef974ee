"""How much time there is left, and what still fits in: the clock that procedures don't have."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterable, Mapping

from fhi_al.record.effects import Effect
from fhi_al.record.events import Event
from fhi_al.record.kinds import KINDS, Kind, leading_to
from fhi_al.record.outcome import Outcome

_LARGEST_MARGIN_S = 30.0
_NEWEST = 20


def parse_walltime(text: str) -> float:
    """Read a walltime as batch systems write it: seconds, MM:SS, HH:MM:SS or D-HH:MM:SS.

    Returns:
        Seconds.

    Raises:
        ValueError: it is nothing of that, or zero.
    """
    match = re.fullmatch(r"(?:(\d+)-(?=\d+:\d+:))?(?:(?:(\d+):)?(\d+):)?(\d+)", text.strip())
    days, hours, minutes, seconds = (
        (int(part or 0) for part in match.groups()) if match else [0] * 4
    )
    total = 86400 * days + 3600 * hours + 60 * minutes + seconds
    if total == 0:
        raise ValueError(f"got {text}, expected HH:MM:SS (or D-HH:MM:SS, or seconds)")
    return float(total)


def end_of_job(
    walltime: float | None, started: float, environment: Mapping[str, str] = os.environ
) -> tuple[float | None, str]:
    """Find out when the command must have ended.

    Args:
        walltime: in seconds, as the user gave it, or None: the end of the Slurm job, if it is one.
        started: when the command was started, in seconds since 1970.
        environment: of the process.

    Returns:
        The time in seconds since 1970, or None, and where it comes from, in words.
    """
    if walltime is not None:
        return started + walltime, "--walltime"
    slurm = environment.get("SLURM_JOB_END_TIME", "")
    if slurm.isdigit() and int(slurm) > 0:
        return float(slurm), "the end of the Slurm job"
    return None, ""


class Walltime:
    """Knows when to stop, and from the durations so far what can be finished before.

    Args:
        end: in seconds since 1970, or None: there is no end.
        started: when the command was started, in seconds since 1970.
        source: where the end comes from, in words.
    """

    def __init__(self, end: float | None, started: float, source: str = "--walltime") -> None:
        self.end, self.source = end, source
        # Enough to stop in: what is in work ends or is given up, files are closed.
        self.margin = 0.0 if end is None else min(_LARGEST_MARGIN_S, 0.2 * (end - started))
        self._seconds: dict[Kind, deque[float]] = {}

    def learn(self, events: Iterable[Event]) -> None:
        """Take note of how long things took."""
        for event in events:
            if not isinstance(event, Outcome):
                continue
            kind = leading_to(type(event))
            # A label that was in the store already took no time.
            if kind.duration and (seconds := kind.duration.of_one(event)) > 0:
                self._seconds.setdefault(kind, deque(maxlen=_NEWEST)).append(seconds)

    def expected(self, effect: Effect) -> float:
        """How long an effect takes, in seconds, by the longest of those like it; 0 if unknown."""
        kind = KINDS[type(effect)]
        if kind.duration is None or kind not in self._seconds:
            return 0.0
        return kind.duration.how_many(effect) * max(self._seconds[kind])

    def has_time_for(self, effect: Effect, ahead: int = 0) -> bool:
        """Whether an effect can be expected to end in time.

        Args:
            effect: to be started.
            ahead: effects like it that the same worker has to do before.
        """
        return self.end is None or (1 + ahead) * self.expected(effect) <= self._left()

    def is_up(self) -> str | None:
        """Why to stop now, or None."""
        return f"the walltime ({self.source}) is about to end" if self._left() <= 0 else None

    def _left(self) -> float:
        return float("inf") if self.end is None else self.end - self.margin - time.time()
