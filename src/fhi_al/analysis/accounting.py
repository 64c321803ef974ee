"""How the ranks spent their time: from the journal alone, after the fact.

Times are rank-seconds: a group of 64 ranks that waits for a second has wasted 64. What a worker
waited for is what was in work elsewhere while it was idle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from fhi_al.atoms.structure import FloatArray
from fhi_al.record.effects import Calculate
from fhi_al.record.events import Opened
from fhi_al.record.journal import Record
from fhi_al.record.kinds import KINDS, leading_to
from fhi_al.record.outcome import Outcome, Place, Role, Worker

RankRole: TypeAlias = Role | Literal["idle"]

LABELS = KINDS[Calculate].word
STARTUP = "start-up"
OTHER_ML = "other ML ranks"
OTHER_GROUPS = "labels of other groups"
SAME_RANK = "other work on its rank"
UNKNOWN = "the controller"


@dataclass(frozen=True)
class Span:
    """A worker was at something.

    Attributes:
        worker: who.
        kind: of work, in the word of `KINDS`; or `STARTUP`.
        began: seconds since 1970.
        ended: seconds since 1970.
        busy: seconds of that in which it worked.
    """

    worker: Worker
    kind: str
    began: float
    ended: float
    busy: float


@dataclass
class Command:
    """What a journal says of one command: enough to draw who did what when.

    Attributes:
        places: of all ranks, in their order.
        began: seconds since 1970 at which it was started.
        opened: when it began to work.
        ended: when its last record was written.
        spans: what the workers did, in the order of the journal.
    """

    places: tuple[Place, ...]
    began: float
    opened: float
    ended: float
    spans: list[Span] = field(default_factory=list)


@dataclass
class RoleUse:
    """How the ranks of a role spent their time, over all commands.

    Attributes:
        role: of the ranks.
        rank_seconds: that they had.
        busy: rank-seconds of work, by kind.
        waiting: rank-seconds without work, by what they waited for.
    """

    role: RankRole
    rank_seconds: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)


def commands(records: Iterable[Record]) -> list[Command]:
    """The commands of a journal that say where their ranks were; older versions didn't."""
    found: list[Command] = []
    known = False
    for record in records:
        event = record.event
        if isinstance(event, Opened):
            known = bool(event.places)
            if known:
                began = event.time - event.startup_s
                found.append(Command(event.places, began, event.time, event.time))
        elif known:
            command = found[-1]
            command.ended = max(command.ended, record.time)
            if isinstance(event, Outcome):
                kind = leading_to(type(event)).word
                command.spans += [
                    Span(work.worker, kind, work.began, work.ended, work.busy)
                    for work in event.work
                ]
    return found


def account(records: Iterable[Record]) -> list[RoleUse]:
    """Add up how the ranks spent their time, role by role; roles that no rank had are left out."""
    uses: dict[RankRole, RoleUse] = {}
    for command in commands(records):
        _add(command, uses)
    return [uses[role] for role in ("ML", "reference", "idle") if role in uses]


class Intervals:
    """Stretches of time, joined where they overlap.

    Args:
        spans: (n, 2) begin and end of each, in seconds, in any order.
    """

    def __init__(self, spans: FloatArray) -> None:
        spans = spans[np.argsort(spans[:, 0])]
        ends = np.maximum.accumulate(spans[:, 1]) if len(spans) else spans[:, 1]
        new = np.ones(len(spans), dtype=bool)
        new[1:] = spans[1:, 0] > ends[:-1]
        last = np.ones(len(spans), dtype=bool)
        last[:-1] = new[1:]
        self.begins: FloatArray = spans[new, 0]
        self.ends: FloatArray = ends[last]

    @property
    def seconds(self) -> float:
        """How long they are together."""
        return float((self.ends - self.begins).sum())

    def overlap(self, other: Intervals) -> float:
        """Seconds that lie both in these and in the others."""
        if not len(self.begins) or not len(other.begins):
            return 0.0
        edges = np.column_stack([other.begins, other.ends]).ravel()
        lengths = np.column_stack([np.zeros_like(other.begins), other.ends - other.begins])
        covered = np.cumsum(lengths.ravel())  # seconds of the others up to each edge
        return float(
            (np.interp(self.ends, edges, covered) - np.interp(self.begins, edges, covered)).sum()
        )

    def gaps(self, began: float, ended: float) -> Intervals:
        """What is left of a stretch of time."""
        inside = Intervals(
            np.clip(np.column_stack([self.begins, self.ends]), began, ended).reshape(-1, 2)
        )
        edges = np.concatenate(
            [[began], np.column_stack([inside.begins, inside.ends]).ravel(), [ended]]
        )
        return Intervals(edges.reshape(-1, 2))


def _intervals(spans: Iterable[Span]) -> Intervals:
    return Intervals(np.array([(s.began, s.ended) for s in spans], dtype=float).reshape(-1, 2))


def _add(command: Command, uses: dict[RankRole, RoleUse]) -> None:
    window = command.ended - command.began
    spans: dict[Worker, list[Span]] = defaultdict(list)
    for span in command.spans:
        spans[span.worker].append(span)
    reasons: dict[Role, list[tuple[str, Intervals]]] = {
        "ML": _reasons(command, "ML"),
        "reference": _reasons(command, "reference"),
    }
    ranks: dict[Worker, int] = defaultdict(int)
    for place in command.places:
        for worker in place.workers:
            ranks[worker] += 1
        if not place.workers:
            use = uses.setdefault("idle", RoleUse("idle"))
            use.rank_seconds += window
    alone = len(command.places) == 1
    for worker, size in ranks.items():
        use = uses.setdefault(worker.role, RoleUse(worker.role))
        use.rank_seconds += size * window
        for span in spans[worker]:
            _count(use.busy, span.kind, size * span.busy)
        own = _intervals(spans[worker])
        gaps = own.gaps(command.began, command.ended)
        waited = _explain(gaps, reasons[worker.role])
        interrupted = own.seconds - sum(span.busy for span in spans[worker])
        _count(waited, SAME_RANK if alone or worker.role == "reference" else OTHER_ML, interrupted)
        for reason, seconds in waited.items():
            _count(use.waiting, reason, size * seconds)


def _count(sums: dict[str, float], name: str, seconds: float) -> None:
    if seconds > 0:
        sums[name] = sums.get(name, 0.0) + seconds


def _reasons(command: Command, role: Role) -> list[tuple[str, Intervals]]:
    """What a worker without work may have waited for, the best explanation first.

    Returns:
        Each reason with the time that it, or one before it, explains.
    """
    ml = [span for span in command.spans if span.worker.role == "ML"]
    found: list[tuple[str, list[Span]]] = [
        (STARTUP, [Span(Worker(role, 0), STARTUP, command.began, command.opened, 0.0)])
    ]
    if role == "ML":
        found += [(OTHER_ML, ml), (LABELS, command.spans)]
    else:
        for kind in dict.fromkeys(span.kind for span in ml):
            found.append((kind, [span for span in ml if span.kind == kind]))
        found.append((OTHER_GROUPS, command.spans))
    seen: list[Span] = []
    cumulative = []
    for reason, spans in found:
        seen = seen + spans
        cumulative.append((reason, _intervals(seen)))
    return cumulative


def _explain(gaps: Intervals, reasons: Sequence[tuple[str, Intervals]]) -> dict[str, float]:
    """Seconds by reason; an instant that several would explain goes to the first."""
    found: dict[str, float] = {}
    explained = 0.0
    for reason, when in reasons:
        together = gaps.overlap(when)
        _count(found, reason, together - explained)
        explained = together
    _count(found, UNKNOWN, gaps.seconds - explained)
    return found


def shares(seconds: Mapping[str, float], total: float, *, least: float = 0.005) -> str:
    """Parts of a whole in words, the largest first; those that round to nothing are left out."""
    if total <= 0:
        return ""
    parts = sorted(seconds.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {100 * s / total:.0f}%" for name, s in parts if s >= least * total)
