"""A run at one instant, in numbers: what `FHI_AL-status` and the live view of a run show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fhi_al.accounting import Role, role_of
from fhi_al.effects import Label
from fhi_al.events import Closed, Failed, Goal, Stage
from fhi_al.lock import Holder
from fhi_al.procedures.run import delivered_members, finished, wanted
from fhi_al.procedures.state import State, WalkerStatus
from fhi_al.procedures.threshold import Threshold
from fhi_al.progress import INITIAL_STRUCTURES, Progress, numbers

Condition = Literal["starting", "running", "stopping", "finished", "stopped", "failed", "crashed"]

_WORK = {
    "isolate": "isolated atoms",
    "label": "labels",
    "sample": "sampling",
    "md": "ab initio MD",
    "advance": "molecular dynamics",
    "train": "training",
    "evaluate": "evaluation",
    "export": "export",
    "import": "import",
}
"""What an effect is called, by the first part of its id."""


@dataclass(frozen=True)
class InWork:
    """What is being done now.

    Attributes:
        kind: of work, in words.
        count: effects of this kind.
        seconds: since the first of them was handed to a worker.
    """

    kind: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Trajectory:
    """A trajectory of active learning, or an ab initio MD of the initial dataset.

    Attributes:
        number: its index.
        state: `labelling` and `training` are what it waits for.
        step: MD steps done.
        max_steps: at which it ends; None: with the stage.
        uncertainty: the newest, in eV/Å, or None.
        threshold: that it is compared with, in eV/Å; None while there is none.
        temperature_K: at the newest uncertainty, or None.
        epochs_left: of training that it waits for.
        system: whose threshold it has; empty where all share one.
    """

    number: int
    state: WalkerStatus
    step: int
    max_steps: int | None
    uncertainty: float | None = None
    threshold: float | None = None
    temperature_K: float | None = None
    epochs_left: int = 0
    system: str = ""


@dataclass(frozen=True)
class ThresholdNow:
    """Above which uncertainty the reference is asked.

    Attributes:
        system: of the trajectories that have it; empty where all share one.
        value: in eV/Å; None during the warm-up.
        n_estimates: uncertainties so far.
        warmup: how many there must be before there is a threshold.
        factor: times the mean of the newest uncertainties.
        window: how many of them are averaged.
    """

    system: str
    value: float | None
    n_estimates: int
    warmup: int
    factor: float
    window: int


@dataclass(frozen=True)
class LabelQueue:
    """Structures on their way through the reference.

    Attributes:
        in_work: being computed.
        handed_out: waiting at a reference group.
        wanted: waiting for a group to have room.
    """

    in_work: int
    handed_out: int
    wanted: int


@dataclass(frozen=True)
class Accuracy:
    """The validation of the committee against what is asked for.

    Attributes:
        force_mae: mean over the members in eV/Å, or None before the first validation; in the
            final convergence, over those that are converged.
        energy_mae: likewise, in eV per atom.
        target: force MAE in eV/Å that is asked for: of the initial dataset, or `desired_acc`.
        n_valid: structures validated on.
        min_valid: at least so many are needed for the target to count.
    """

    force_mae: float | None
    energy_mae: float | None
    target: float
    n_valid: int
    min_valid: int


@dataclass(frozen=True)
class Limit:
    """A number that ends the stage when it is reached; the first one does.

    Attributes:
        what: in words.
        number: as it is now.
        limit: that ends the stage.
        per_second: by how much it has grown lately, or None: too early to tell.
        seconds: until it is reached at that pace, or None.
    """

    what: str
    number: int
    limit: int
    per_second: float | None
    seconds: float | None


@dataclass(frozen=True)
class RoleShare:
    """How busy the ranks of a role have been, over all commands.

    Attributes:
        role: of the ranks.
        ranks: in the present, or last, command.
        busy: share of their time, 0 to 1; a calculation in work counts.
        kinds: likewise, by kind of work.
    """

    role: Role
    ranks: int
    busy: float
    kinds: dict[str, float]


@dataclass(frozen=True)
class Snapshot:
    """A run at one instant. Energies in eV, lengths in Å, times in seconds.

    Attributes:
        name: of the run.
        condition: of the command that was started last.
        why: how it ended, in words; empty while it works.
        host: where it works; None where none does.
        pid: of its rank 0; None where none does.
        goal: of that command.
        stage: of the run.
        time: of this snapshot, in seconds since 1970.
        last_record: when the newest record was written, likewise.
        opened: when that command began to work, likewise.
        seconds: that commands have worked.
        stage_seconds: of that, in the present stage.
        commands: started so far.
        in_work: what is being done.
        queue: of labels.
        trajectories: of active learning from its beginning on, of ab initio MD before.
        thresholds: none before active learning.
        train_size: structures in the largest training set of a member.
        n_valid: structures for validation.
        n_audit: sanity checks.
        limits: numbers that end the stage.
        seconds_left: in this stage, by the first limit to be reached at the present pace; it ends
            sooner if its accuracy is reached, or if training no longer helps. None: can't be told.
        accuracy: against the target of the stage.
        reference_calls: calculations, failed ones included.
        reference_seconds: in them.
        n_rejected: structures without a usable label.
        roles: how busy the ranks were; none in journals of earlier versions.
    """

    name: str
    condition: Condition
    why: str
    host: str | None
    pid: int | None
    goal: Goal
    stage: Stage
    time: float
    last_record: float
    opened: float
    seconds: float
    stage_seconds: float
    commands: int
    in_work: tuple[InWork, ...]
    queue: LabelQueue
    trajectories: tuple[Trajectory, ...]
    thresholds: tuple[ThresholdNow, ...]
    train_size: int
    n_valid: int
    n_audit: int
    limits: tuple[Limit, ...]
    seconds_left: float | None
    accuracy: Accuracy
    reference_calls: int
    reference_seconds: float
    n_rejected: int
    roles: tuple[RoleShare, ...]


def take_snapshot(
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
    return Snapshot(
        name=name,
        condition=condition,
        why=why,
        host=holder.host if holder else None,
        pid=holder.pid if holder else None,
        goal=state.goal,
        stage=state.stage,
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
        train_size=state.train_size,
        n_valid=state.n_valid,
        n_audit=sum(entry.split == "audit" for entry in state.entries),
        limits=limits,
        seconds_left=min(left) if left and not finished(state) else None,
        accuracy=_accuracy(state),
        reference_calls=sum(cost.reference_calls for cost in costs),
        reference_seconds=sum(cost.reference_seconds for cost in costs),
        n_rejected=state.n_rejected,
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
    if state.failure:
        return "failed", state.failure
    if farewell is not None:
        return "stopped", farewell.reason
    return "crashed", "it ended without a word: killed, or the machine failed"


def _at_work(state: State, progress: Progress) -> list[tuple[str, str, float]]:
    """Effect, worker and begin of what is being done; a group's second effect waits."""
    found: dict[str, tuple[str, str, float]] = {}
    for effect, worker in state.in_flight.items():
        if effect in progress.started:
            began = max(progress.started[effect], progress.ended.get(worker, 0.0))
            found.setdefault(worker, (effect, worker, began))
    return list(found.values())


def _in_work(at_work: Iterable[tuple[str, str, float]], now: float) -> tuple[InWork, ...]:
    began: dict[str, list[float]] = {}
    for effect, _, when in at_work:
        kind = _WORK.get(effect.partition("-")[0].rstrip("0123456789"), effect)
        began.setdefault(kind, []).append(when)
    return tuple(
        InWork(kind, len(times), max(now - min(times), 0.0)) for kind, times in began.items()
    )


def _queue(state: State, *, working: bool) -> LabelQueue:
    in_flight = state.in_flight if working else {}
    groups = Counter(worker for id, worker in in_flight.items() if id.startswith("label-"))
    waiting = [e for e in wanted(state) if isinstance(e, Label) and e.id not in in_flight]
    return LabelQueue(len(groups), groups.total() - len(groups), len(waiting))


def _thresholds(state: State) -> dict[str, ThresholdNow]:
    active, rules = state.active, state.rules
    if active is None:
        return {}
    found = {}
    for system in dict.fromkeys(rules.threshold_systems) or [""]:
        estimates = active.n_estimates.get(system, 0)
        history = active.histories.get(system, ())
        value = Threshold(rules.threshold, history, estimates).value
        found[system] = ThresholdNow(
            system,
            value,
            estimates,
            rules.uncertainty_warmup,
            rules.threshold_factor,
            rules.uncertainty_window,
        )
    return found


def _trajectories(
    state: State, progress: Progress, thresholds: Mapping[str, ThresholdNow]
) -> tuple[Trajectory, ...]:
    rules = state.rules
    if state.active is None:
        return tuple(
            Trajectory(number, "running" if md.labelled else "labelling", max(md.step, 0), None)
            for number, md in sorted(state.initial.reference_md.items())
        )
    found = []
    for number, walker in enumerate(state.active.walkers):
        system = rules.threshold_systems[number] if rules.threshold_systems else ""
        uncertainty, temperature = progress.measured.get(number, (None, None))
        ended = state.stage != "active_learning"
        status: WalkerStatus = "finished" if ended else walker.status
        found.append(
            Trajectory(
                number,
                status,
                walker.step,
                rules.max_MD_steps,
                uncertainty,
                thresholds[system].value,
                temperature,
                walker.epochs_left if status == "training" else 0,
                system,
            )
        )
    return tuple(found)


def _limits(state: State, progress: Progress, clock: float) -> tuple[Limit, ...]:
    found = []
    for what, (number, limit) in numbers(state).items():
        left = max(limit - number, 0)
        pace = progress.paces[what].per_second(clock)
        seconds = left / pace if pace else None
        converging = state.stage in ("converge_initial", "convergence")
        if converging and state.convergence and state.convergence.seconds_per_epoch:
            # Epochs of one kind of training: the last ones tell best.
            each = state.convergence.seconds_per_epoch
            pace, seconds = 1 / each, max(left * each - (clock - progress.trained), 0.0)
        if left == 0 or what == INITIAL_STRUCTURES:
            # What is left to do then is of another kind: training, evaluation, export.
            seconds = None
        found.append(Limit(what, number, limit, pace, seconds))
    return tuple(found)


def _accuracy(state: State) -> Accuracy:
    rules = state.rules
    members = [state.members[index] for index in delivered_members(state) if state.members]
    initial = state.stage in ("initial_dataset", "converge_initial")
    return Accuracy(
        force_mae=_mean([member.force_mae for member in members]),
        energy_mae=_mean([member.energy_mae for member in members]),
        target=rules.initial_target if initial else rules.desired_acc,
        n_valid=state.n_valid,
        min_valid=rules.min_valid_size,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _roles(
    progress: Progress, at_work: Iterable[tuple[str, str, float]], until: float
) -> tuple[RoleShare, ...]:
    ranks = Counter(worker for place in progress.places for worker in place.workers)
    # A calculation may take hours, and a record tells of it when it has ended.
    unfinished = sum(
        ranks[worker] * max(until - began, 0.0)
        for _, worker, began in at_work
        if role_of(worker) == "reference"
    )
    found = []
    roles: tuple[Role, ...] = ("ML", "reference", "idle")
    for role in roles:
        if (use := progress.roles.get(role)) is None:
            continue
        total = use.rank_seconds + use.ranks * max(until - progress.began, 0.0)
        busy = dict(use.busy)
        if role == "reference":
            busy["labels"] = busy.get("labels", 0.0) + unfinished
        kinds = {kind: seconds / total for kind, seconds in busy.items() if seconds and total}
        found.append(RoleShare(role, use.ranks, min(sum(kinds.values()), 1.0), kinds))
    return tuple(found)
