"""A run by the clock, without the work: the real procedures, answered by workers that only wait.

Which structure will be chosen when is a matter of chance, drawn here from a distribution that fits
real runs: uncertainties fall as the training set grows, and scatter by a third. All else, what
waits for what and what goes on side by side, is decided by the procedures themselves.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fhi_al.planning.costs import Costs, RankSplit, Rates, WorkSizes
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.run import finished, moving_stage, step, wanted
from fhi_al.procedures.state import State
from fhi_al.procedures.threshold import Thresholds
from fhi_al.record.effects import (
    Advance,
    Calculate,
    Effect,
    Evaluate,
    Export,
    Import,
    Isolate,
    Sample,
    Train,
)
from fhi_al.record.events import (
    Advanced,
    Candidate,
    Check,
    Event,
    Imported,
    Isolated,
    Labelled,
    MemberState,
    Opened,
    Stage,
    Started,
    Trained,
)
from fhi_al.record.kinds import KINDS, role_of
from fhi_al.record.outcome import Worker
from fhi_al.workers.simulated import SimulatedWorker

SCATTER = 0.35
"""Standard deviation of the logarithm of uncertainties at one size of the training set.

Source: the ethanol example, where it is 0.22 to 0.42, and the mean falls as 1/size (0.49 eV/Å with
7 structures, 0.042 with 75).
"""

_MAX_SECONDS = 30.0
_QUEUE_DEPTH = 2
_ML = Worker("ML", 0)
_MAX_EVENTS = 200_000


@dataclass
class StageForecast:
    """What a stage is expected to take."""

    stage: Stage
    wall_s: float = 0.0
    calls: int = 0


@dataclass
class Forecast:
    """What a run is expected to take.

    Attributes:
        stages: in order.
        busy_s: seconds of work by kind: of the reference groups together, and of the ML group.
        reference_share: of the time of all groups in which they compute.
        train_size: structures in the largest training set at the end of active learning.
        md_steps: of all trajectories together.
        limited_by: what ends active learning, in words.
    """

    stages: list[StageForecast]
    busy_s: dict[str, float] = field(default_factory=dict)
    reference_share: float = 0.0
    train_size: int = 0
    md_steps: int = 0
    limited_by: str = ""

    @property
    def wall_s(self) -> float:
        """Of the whole run."""
        return sum(stage.wall_s for stage in self.stages)

    @property
    def calls(self) -> int:
        """Of the reference, in the whole run."""
        return sum(stage.calls for stage in self.stages)


class _Waiter(SimulatedWorker):
    """Answers effects with what a run is expected to give, and says how long that takes."""

    def __init__(self, rules: Rules, costs: Costs, shape: WorkSizes, split: RankSplit) -> None:
        super().__init__(rules)
        self._costs = costs
        self._shape = shape
        self._split = split
        self._ml_ranks = max(1, split.ml)
        self._spent: dict[str, float] = defaultdict(float)
        self._md_steps: dict[int, int] = {}

    @property
    def md_steps(self) -> int:
        """Of all trajectories together."""
        return sum(self._md_steps.values())

    def take(self, effect: Effect) -> tuple[Event, float]:
        """What an effect leads to, and after how many seconds of work; labels apart."""
        if isinstance(effect, Train):
            event = self._trained(effect)
            return event, event.seconds
        if isinstance(effect, Advance):
            advanced = self._moved(effect)
            return advanced, advanced.seconds
        if isinstance(effect, Isolate):
            keys = [self._key("atom", number) for number in range(self._shape.isolated)]
            return Isolated(effect.id, tuple(("X", n, key) for n, key in enumerate(keys))), 0.0
        if isinstance(effect, Import):
            weights = effect.id if self._shape.weights else None
            return Imported(effect.id, weights, self._shape.entries, ()), 0.0
        if isinstance(effect, Evaluate | Export):
            return self.answer(effect), self._rates("train").train_overhead_s
        if isinstance(effect, Sample):
            steps = math.ceil(effect.count / self._rules.n_geometries)
            seconds = steps * self._rules.skip_step_initial * self._costs.sample_step_s
            return self.answer(effect), seconds if effect.method == "foundation" else 0.0
        return self.answer(effect), 0.0

    def _rates(self, kind: str) -> Rates:
        costs = self._costs
        if costs.compiled is None or self._spent[kind] < costs.compiled_after_s:
            return costs.eager
        return costs.compiled

    def _trained(self, effect: Train) -> Trained:
        rules, shape, rates = self._rules, self._shape, self._rates("train")
        whole = effect.stage in ("converge_initial", "convergence")
        members = math.ceil(len(effect.members) / self._ml_ranks)
        n_train, n_valid = _sizes(effect, rules.ensemble_size)
        every = shape.eval_interval_converging if whole else shape.eval_interval
        epoch = (
            math.ceil(n_train / shape.batch_size) * rates.train_step_s
            + math.ceil(n_valid / shape.valid_batch_size) * rates.valid_step_s / every
        )
        seconds = rates.train_overhead_s + members * effect.epochs * epoch
        self._spent["train"] += seconds
        self._epochs += effect.epochs
        # No errors: nothing ends before its time. Losses fall, so that nothing is stuck.
        loss = 1.0 / (1 + self._epochs)
        member = MemberState(
            epoch=self._epochs,
            loss=loss,
            valid_loss=loss,
            force_mae=None,
            energy_mae=None,
            best_force_mae=None,
            best_loss=loss,
            stale_epochs=0,
            n_train=n_train,
            n_valid=n_valid,
        )
        return Trained(
            effect=effect.id,
            weights=effect.id,
            members=(member,) * rules.ensemble_size,
            trained=effect.members,
            epochs=effect.epochs,
            n_entries=len(effect.entries),
            history=(),
            seconds=seconds,
        )

    def _moved(self, effect: Advance) -> Advanced:
        rules, rates = self._rules, self._rates("md")
        thresholds = Thresholds(rules.threshold, rules.threshold_systems)
        for history in effect.histories:
            thresholds.restore(history.system, history.values, history.n_estimates)
        walkers = math.ceil(len(effect.trajectories) / self._ml_ranks)
        step_s = rates.md_step_s + walkers * rates.md_walker_s
        start = [rules.max_MD_steps - left for left in effect.steps_left]
        left, seconds, moved = min(effect.steps_left), rates.md_overhead_s, 0
        checks: list[Check] = []
        candidates: list[Candidate] = []
        while left > 0 and not candidates and seconds < _MAX_SECONDS:
            n_steps = min(rules.skip_step_mlff, left)
            left -= n_steps
            moved += n_steps
            seconds += n_steps * step_s
            scale = 1.0 / max(effect.n_train, 1)
            values = scale * self._random.lognormal(sigma=SCATTER, size=len(start))
            steps = tuple(first + moved for first in start)
            nothing = (0.0,) * len(start)
            checks.append(Check(effect.trajectories, steps, tuple(values.tolist()), nothing))
            for i, trajectory in enumerate(effect.trajectories):
                theta = thresholds.of(trajectory).add(float(values[i]))
                crossed = theta is not None and values[i] > theta
                if crossed or len(checks) >= effect.checks_left[i]:
                    key = self._key("walker", trajectory, steps[i])
                    candidates.append(
                        Candidate(trajectory, steps[i], key, float(values[i]), theta, "threshold")
                    )
        self._spent["md"] += seconds
        ends = tuple(first + moved for first in start)
        self._md_steps.update(zip(effect.trajectories, ends, strict=True))
        return Advanced(
            effect=effect.id,
            walkers=effect.id,
            trajectories=effect.trajectories,
            steps=ends,
            checks=tuple(checks),
            candidates=tuple(candidates),
            seconds=seconds,
            path="forecast",
        )


def _sizes(effect: Train, ensemble_size: int) -> tuple[int, int]:
    """Structures that a member trains on, at most, and is validated on."""
    own: Counter[int] = Counter()
    everyone = valid = 0
    for entry in effect.entries:
        if entry.split == "valid":
            valid += 1
        elif entry.split == "train":
            everyone += entry.member < 0
            own[entry.member] += entry.member >= 0
    if effect.union:
        return everyone + own.total(), valid
    return everyone + max(own.values(), default=0), max(1, valid // ensemble_size)


def forecast(
    opened: Opened, costs: Costs, shape: WorkSizes, split: RankSplit, *, startup_s: float = 0.0
) -> Forecast:
    """Go through a run.

    Args:
        opened: the event with which it would begin.
        costs: durations.
        shape: of the work.
        split: of the ranks.
        startup_s: seconds that a command needs before it works.

    Returns:
        What it takes if no accuracy is reached before its time: as the settings allow at most.
    """
    # What the settings say of the ranks is another split's.
    settings = {**opened.settings, "reference_groups": len(split.groups)}
    state = step(None, replace(opened, settings=settings))
    waiter = _Waiter(state.rules, costs, shape, split)
    depth = _QUEUE_DEPTH if state.rules.asynchronous and not split.alone else 1
    groups = [Worker("reference", number) for number in range(len(split.groups))]
    free_at = dict.fromkeys([_ML, *groups], startup_s)
    held: Counter[Worker] = Counter()
    busy: dict[str, float] = defaultdict(float)
    coming: list[tuple[float, int, Worker, Event]] = []
    stages: dict[Stage, StageForecast] = {}
    order = itertools.count()
    now = startup_s
    reference_s = 0.0
    for _ in range(_MAX_EVENTS):
        if finished(state) or state.books.failure:
            break
        for effect, worker in _handed_out(state, held, depth, groups):
            state = step(state, Started(effect.id, worker, type(effect).__name__))
            held[worker] += 1
            if isinstance(effect, Calculate):
                seconds = costs.label_on(split.groups[worker.number])
                event: Event = Labelled(effect.id, effect.key, -1.0, seconds)
                reference_s += seconds
            else:
                event, seconds = waiter.take(effect)
            busy[KINDS[type(effect)].word] += seconds
            # With one rank, all workers are the same.
            resource = _ML if split.alone else worker
            free_at[resource] = max(now, free_at[resource]) + seconds
            heapq.heappush(coming, (free_at[resource], next(order), worker, event))
        if not coming:
            break
        before, stage = now, state.stage
        now, _, worker, event = heapq.heappop(coming)
        held[worker] -= 1
        found = stages.setdefault(stage, StageForecast(stage))
        found.wall_s += now - before
        found.calls += isinstance(event, Labelled)
        state = step(state, event)
    wall = max(now - startup_s, 1e-9)
    return Forecast(
        stages=list(stages.values()),
        busy_s=dict(busy),
        reference_share=reference_s / (len(split.groups) * wall),
        train_size=state.books.train_size,
        md_steps=waiter.md_steps,
        limited_by=_why_it_ends(state),
    )


def _handed_out(
    state: State, held: Counter[Worker], depth: int, groups: Sequence[Worker]
) -> list[tuple[Effect, Worker]]:
    """The effects that the controller would submit now, with their workers."""
    chosen: list[tuple[Effect, Worker]] = []
    taken = Counter(held)
    for effect in wanted(state):
        if effect.id in state.books.in_flight:
            continue
        if not state.rules.asynchronous and (chosen or state.books.in_flight):
            break
        computed = role_of(effect) == "reference"
        worker = min(groups if computed else [_ML], key=lambda one: taken[one])
        if taken[worker] < (depth if computed else 1):
            taken[worker] += 1
            chosen.append((effect, worker))
    return chosen


def _why_it_ends(state: State) -> str:
    if state.books.failure:
        return state.books.failure
    stage = moving_stage(state)
    return (stage.reason(stage.own(state)) if stage is not None else None) or ""
