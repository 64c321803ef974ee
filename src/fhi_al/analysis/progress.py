"""How a run is coming along: times, costs and the newest measurements.

The state (`procedures.state`) has what the run itself goes by, and no clock. This is the rest of
what a journal tells, taken in record by record beside it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from fhi_al.analysis.accounting import RankRole
from fhi_al.procedures.run import progress_of
from fhi_al.procedures.state import State
from fhi_al.record.events import (
    Advanced,
    Closed,
    Event,
    Failed,
    Labelled,
    LabelRejected,
    Opened,
    Stage,
    Started,
    Trained,
)
from fhi_al.record.kinds import leading_to
from fhi_al.record.outcome import Outcome, Place, Worker

_NEWEST = 41
_FEWEST = 5


@dataclass
class StageCost:
    """What a stage has cost.

    Attributes:
        wall_seconds: while a command was running.
        reference_calls: calculations of the reference, failed ones included.
        reference_seconds: in them.
    """

    stage: Stage
    wall_seconds: float = 0.0
    reference_calls: int = 0
    reference_seconds: float = 0.0


class Pace:
    """How fast a number has grown lately: over its last 40 changes."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque(maxlen=_NEWEST)

    def note(self, clock: float, number: int) -> None:
        """Take note of the number.

        Args:
            clock: seconds, of the time in which it can grow.
            number: as it is now.
        """
        if not self._points or number != self._points[-1][1]:
            self._points.append((clock, number))

    def per_second(self, clock: float) -> float | None:
        """By how much it grows in a second; None where there are too few changes to tell.

        Args:
            clock: as it is now.
        """
        if len(self._points) <= _FEWEST:
            return None
        (began, first), (_, last) = self._points[0], self._points[-1]
        grown, seconds = last - first, clock - began
        return grown / seconds if grown > 0 and seconds > 0 else None


@dataclass
class Busy:
    """What the ranks of a role have done.

    Attributes:
        rank_seconds: that they had, in commands before the present one.
        ranks: in the present command.
        busy: rank-seconds of work, by kind.
    """

    rank_seconds: float = 0.0
    ranks: int = 0
    busy: dict[str, float] = field(default_factory=dict)


class Progress:
    """Takes in the records of a journal, one by one; see the attributes for what is then known.

    Attributes:
        commands: how many were started.
        places: of the ranks of the present command.
        began: when the present command was started, in seconds since 1970.
        opened: when it began to work, likewise.
        last: when the last record was written, likewise.
        clock: seconds in which commands were at work, up to the last record.
        stage_began: what the clock said when the present stage began.
        costs: of each stage.
        started: effect in work -> when it was handed out, in seconds since 1970.
        ended: when each worker's last work ended, likewise.
        roles: what the ranks of each role have done.
        measured: trajectory -> its newest uncertainty in eV/Å and its temperature in K.
        trained: what the clock said after the last training.
        paces: of the numbers that may end the present stage, by what they count.
        farewell: what the present command said at its end, or None.
    """

    def __init__(self) -> None:
        self.commands = 0
        self.places: tuple[Place, ...] = ()
        self.began = self.opened = self.last = 0.0
        self.clock = self.stage_began = 0.0
        self.costs: dict[Stage, StageCost] = {}
        self.started: dict[str, float] = {}
        self.ended: dict[Worker, float] = {}
        self.roles: dict[RankRole, Busy] = {}
        self.measured: dict[int, tuple[float, float]] = {}
        self.trained = 0.0
        self.paces: dict[str, Pace] = {}
        self.farewell: Closed | Failed | None = None
        self._stage: Stage | None = None
        self._sizes: dict[Worker, int] = {}

    def take(self, state: State, event: Event, when: float) -> None:
        """Take in an event.

        Args:
            state: that has taken the event already.
            event: what happened.
            when: it was written down, in seconds since 1970.
        """
        if isinstance(event, Opened):
            self._open(event, when)
        else:
            self._count(event, when)
        self.last = max(self.last, when)
        if isinstance(event, Started):
            # The most frequent event, which changes nothing else.
            self.started[event.effect] = when
            return
        if isinstance(event, Closed | Failed):
            self.farewell = event
        elif isinstance(event, Outcome):
            self.started.pop(event.effect, None)
            self._account(event)
        if isinstance(event, Advanced):
            for check in event.checks:
                newest = zip(check.uncertainties, check.temperatures, strict=True)
                self.measured.update(zip(check.trajectories, newest, strict=True))
        elif isinstance(event, Trained):
            self.trained = self.clock
        if state.stage != self._stage:
            self._stage, self.stage_began = state.stage, self.clock
            self.paces.clear()
        for name, count in progress_of(state).items():
            self.paces.setdefault(name, Pace()).note(self.clock, count.number)

    def _open(self, event: Opened, when: float) -> None:
        for use in self.roles.values():
            use.rank_seconds += use.ranks * (self.last - self.began)
            use.ranks = 0
        self.commands += 1
        self.places = event.places
        self.opened, self.began = when, event.time - event.startup_s
        self.started.clear()
        self.ended.clear()
        self.farewell = None
        self._sizes = defaultdict(int)
        for place in event.places:
            roles: set[RankRole] = {worker.role for worker in place.workers} or {"idle"}
            for role in roles:
                self.roles.setdefault(role, Busy()).ranks += 1
            for worker in place.workers:
                self._sizes[worker] += 1

    def _count(self, event: Event, when: float) -> None:
        assert self._stage is not None
        cost = self.costs.setdefault(self._stage, StageCost(self._stage))
        passed = max(when - self.last, 0.0)
        self.clock += passed
        cost.wall_seconds += passed
        # A label that was in the store already took no time.
        if isinstance(event, Labelled | LabelRejected) and event.seconds > 0:
            cost.reference_calls += 1
            cost.reference_seconds += event.seconds

    def _account(self, event: Outcome) -> None:
        for work in event.work:
            self.ended[work.worker] = work.ended
            if (size := self._sizes.get(work.worker, 0)) > 0:
                busy = self.roles[work.worker.role].busy
                kind = leading_to(type(event)).word
                busy[kind] = busy.get(kind, 0.0) + size * work.busy
