"""From the state and the progress of a run to a snapshot of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fhi_al.analysis.accounting import LABELS, RankRole
from fhi_al.analysis.progress import Progress
from fhi_al.folder.lock import Holder
from fhi_al.monitor.snapshot import (
    Accuracy,
    Condition,
    InWork,
    LabelQueue,
    Limit,
    RoleShare,
    Snapshot,
    TrajectoryView,
)
from fhi_al.procedures.procedure import ThresholdNow
from fhi_al.procedures.run import (
    delivered_members,
    finished,
    moving_stage,
    progress_of,
    stage_of,
    stage_words,
    wanted,
)
from fhi_al.procedures.state import State
from fhi_al.record.effects import Calculate
from fhi_al.record.events import Closed, Failed, Started
from fhi_al.record.kinds import kind_named
from fhi_al.record.outcome import Worker


def observe(
    state: State, progress: Progress, now: float, holder: Holder | None, name: str = ""
) -> Snapshot:
    """Sum up a run.

    Args:
        state: after all records.
        progress: likewise.
        now: seconds since 1970.
        holder: who works in the folder, or None.
        name: of the run.
    """
    condition, why = _condition(state, progress, holder)
    works = condition in ("running", "stopping")
    passed = max(now - progress.last, 0.0) if works else 0.0
    clock = progress.clock + passed
    limits = _limits(state, progress, clock)
    left = [limit.seconds for limit in limits if limit.seconds is not None]
    thresholds = _thresholds(state)
    at_work = _at_work(state, progress) if works else []
    costs = progress.costs.values()
    stage = stage_of(state)
    return Snapshot(
        name=name,
        condition=condition,
        why=why,
        host=holder.host if holder else None,
        pid=holder.pid if holder else None,
        silent_seconds=max(now - holder.last_sign, 0.0) if holder else None,
        goal=state.goal,
        stage=state.stage,
        stage_words=stage_words(state),
        moves=stage is not None and stage.moves,
        at_most=stage is not None and stage.at_most,
        time=now,
        last_record=progress.last,
        opened=progress.opened,
        seconds=clock,
        stage_seconds=clock - progress.stage_began,
        commands=progress.commands,
        in_work=_in_work(at_work, now),
        queue=_queue(state, working=works),
        trajectories=_trajectories(state, progress, thresholds),
        thresholds=tuple(thresholds.values()),
        train_size=state.books.train_size,
        n_valid=state.books.n_valid,
        n_audit=sum(entry.split == "audit" for entry in state.books.entries),
        limits=limits,
        seconds_left=min(left) if left and not finished(state) else None,
        accuracy=_accuracy(state),
        reference_calls=sum(cost.reference_calls for cost in costs),
        reference_seconds=sum(cost.reference_seconds for cost in costs),
        n_rejected=state.books.n_rejected,
        roles=_roles(progress, at_work, now if works else progress.last),
    )


def _condition(state: State, progress: Progress, holder: Holder | None) -> tuple[Condition, str]:
    farewell = progress.farewell
    if holder is not None:
        if holder.since > progress.opened:
            return "starting", ""
        if not isinstance(farewell, Closed):
            return "running", ""
        if not finished(state):
            return "stopping", farewell.reason
    if finished(state):
        return "finished", ""
    if isinstance(farewell, Failed):
        where = f"rank {farewell.rank} on {farewell.host}"
        return "failed", f"{where}: {farewell.error}"
    if state.books.failure:
        return "failed", state.books.failure
    if farewell is not None:
        return "stopped", farewell.reason
    return "crashed", "it ended without a word: killed, or the machine failed"


def _at_work(state: State, progress: Progress) -> list[tuple[Started, float]]:
    """What is being done, and since when; a group's second effect waits."""
    found: dict[Worker, tuple[Started, float]] = {}
    for started in state.books.in_flight.values():
        if started.effect in progress.started:
            handed_out = progress.started[started.effect]
            began = max(handed_out, progress.ended.get(started.worker, 0.0))
            found.setdefault(started.worker, (started, began))
    return list(found.values())


def _in_work(at_work: Iterable[tuple[Started, float]], now: float) -> tuple[InWork, ...]:
    began: dict[str, list[float]] = {}
    for started, when in at_work:
        began.setdefault(kind_named(started.kind).word, []).append(when)
    return tuple(
        InWork(kind, len(times), max(now - min(times), 0.0)) for kind, times in began.items()
    )


def _queue(state: State, *, working: bool) -> LabelQueue:
    in_flight = state.books.in_flight if working else {}
    groups = Counter(
        started.worker for started in in_flight.values() if kind_named(started.kind).word == LABELS
    )
    waiting = [e for e in wanted(state) if isinstance(e, Calculate) and e.id not in in_flight]
    return LabelQueue(len(groups), groups.total() - len(groups), len(waiting))


def _thresholds(state: State) -> dict[str, ThresholdNow]:
    stage = moving_stage(state)
    if stage is None:
        return {}
    return {now.system: now for now in stage.thresholds(state, stage.own(state))}


def _trajectories(
    state: State, progress: Progress, thresholds: Mapping[str, ThresholdNow]
) -> tuple[TrajectoryView, ...]:
    stage = moving_stage(state)
    if stage is None:
        return ()
    found = []
    for trajectory in stage.trajectories(state, stage.own(state)):
        threshold = thresholds.get(trajectory.system)
        uncertainty, temperature = progress.measured.get(trajectory.number, (None, None))
        found.append(
            TrajectoryView(
                trajectory.number,
                trajectory.status,
                trajectory.step,
                trajectory.last_step,
                uncertainty,
                threshold.value if threshold is not None else None,
                temperature,
                trajectory.epochs_left,
                trajectory.system,
            )
        )
    return tuple(found)


def _limits(state: State, progress: Progress, clock: float) -> tuple[Limit, ...]:
    found = []
    for what, count in progress_of(state).items():
        left = max(count.limit - count.number, 0)
        pace = progress.paces[what].per_second(clock)
        seconds = left / pace if pace else None
        if count.seconds_each:
            pace = 1 / count.seconds_each
            seconds = max(left * count.seconds_each - (clock - progress.trained), 0.0)
        if left == 0 or not count.last:
            # What is left to do then is of another kind: training, evaluation, export.
            seconds = None
        found.append(Limit(what, count.number, count.limit, pace, seconds))
    return tuple(found)


def _accuracy(state: State) -> Accuracy:
    rules = state.rules
    members = [
        state.books.members[index] for index in delivered_members(state) if state.books.members
    ]
    stage = stage_of(state)
    return Accuracy(
        force_mae=_mean([member.force_mae for member in members]),
        energy_mae=_mean([member.energy_mae for member in members]),
        target=stage.target(state) if stage is not None else rules.desired_acc,
        n_valid=state.books.n_valid,
        min_valid=rules.min_valid_size,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _roles(
    progress: Progress, at_work: Iterable[tuple[Started, float]], until: float
) -> tuple[RoleShare, ...]:
    ranks = Counter(worker for place in progress.places for worker in place.workers)
    # A calculation may take hours, and a record tells of it when it has ended.
    unfinished = sum(
        ranks[started.worker] * max(until - began, 0.0)
        for started, began in at_work
        if started.worker.role == "reference"
    )
    found = []
    roles: tuple[RankRole, ...] = ("ML", "reference", "idle")
    for role in roles:
        if (use := progress.roles.get(role)) is None:
            continue
        total = use.rank_seconds + use.ranks * max(until - progress.began, 0.0)
        busy = dict(use.busy)
        if role == "reference":
            busy[LABELS] = busy.get(LABELS, 0.0) + unfinished
        kinds = {kind: seconds / total for kind, seconds in busy.items() if seconds and total}
        found.append(RoleShare(role, use.ranks, min(sum(kinds.values()), 1.0), kinds))
    return tuple(found)
