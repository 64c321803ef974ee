"""Active learning: move, doubt, ask, learn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from fhi_al.procedures.procedure import Stage, ThresholdNow, Trajectory
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.split import next_split
from fhi_al.procedures.state import Origin, State
from fhi_al.procedures.stop import STOP_CRITERIA, StopCriterion
from fhi_al.procedures.threshold import Threshold
from fhi_al.procedures.walkers import WalkerState
from fhi_al.record.effects import Advance, Calculate, Effect, History, Reset, Train
from fhi_al.record.events import (
    ALL_MEMBERS,
    Advanced,
    Candidate,
    Entry,
    Event,
    Labelled,
    LabelRejected,
    Trained,
)

_MAX_BREAKDOWNS = 3


@dataclass
class ActiveState:
    """Active learning.

    Attributes:
        walkers: one a trajectory.
        histories: system (or `` for all) -> its newest uncertainties.
        file: walkers file of all trajectories, or None at the start.
        audits: sanity checks that wait for their label, by key.
        n_estimates: system -> how many there were in all.
        n_added: labels that this stage has dealt to training and validation sets; `n_valid` of
            them to the latter.
        moving_pays: whether the last molecular dynamics found a structure, or none was run since
            the last training.
        epochs: of training in this stage.
        best_loss: lowest mean validation loss; `stale_epochs` counts since it improved.
        reset_optimizer: the next training starts with a fresh optimizer.
        stuck: how often that has happened.
        reason: why the stage ends.
    """

    walkers: list[WalkerState]
    histories: dict[str, deque[float]] = field(default_factory=dict)
    file: str | None = None
    audits: dict[str, Candidate] = field(default_factory=dict)
    n_estimates: dict[str, int] = field(default_factory=dict)
    n_added: int = 0
    n_valid: int = 0
    moving_pays: bool = True
    epochs: int = 0
    best_loss: float | None = None
    stale_epochs: int = 0
    reset_optimizer: bool = False
    stuck: int = 0
    reason: str | None = None


class ActiveLearning(Stage[ActiveState]):
    """Molecular dynamics finds structures, the reference labels them, the committee trains on."""

    moves = True

    def begin(self, state: State) -> ActiveState:
        """All walkers at their start."""
        return ActiveState([WalkerState(n) for n in range(state.rules.num_trajectories)])

    def resume(self, state: State, own: ActiveState) -> None:
        """More trajectories, longer ones."""
        rules, walkers = state.rules, own.walkers
        walkers += [WalkerState(n) for n in range(len(walkers), rules.num_trajectories)]
        for walker in walkers:
            if walker.status in ("running", "finished"):
                walker.go_on(rules.max_MD_steps)

    def refusals(self, own: ActiveState, rules: Rules) -> Iterator[str]:
        """Fewer trajectories."""
        if rules.num_trajectories < len(own.walkers):
            yield (
                f"ACTIVE_LEARNING.num_trajectories was {len(own.walkers)}, is "
                f"{rules.num_trajectories}; it can only become larger"
            )

    def step(self, state: State, own: ActiveState, event: Event) -> None:
        """Take an event into the state."""
        if isinstance(event, Advanced):
            _advanced(state, own, event)
        elif isinstance(event, Labelled | LabelRejected):
            audit = own.audits.pop(event.key, None)
            if audit is not None and isinstance(event, Labelled):
                state.books.add(Entry(event.key, ALL_MEMBERS, "audit"))
            if waiting := [w for w in own.walkers if w.candidate and w.candidate.key == event.key]:
                _answered(state, own, waiting, event)
        elif isinstance(event, Trained):
            _trained(state, own, event)
        own.reason = own.reason or self.first_reason(state, own)

    def adopt(self, state: State, own: ActiveState, key: str) -> None:
        """Give a label to all members."""
        _take(state, own, key)

    def open_to_retries(self, own: ActiveState) -> bool:
        """As long as the set grows."""
        return own.reason is None

    def wanted(self, state: State, own: ActiveState) -> list[Effect]:
        """What should be running now, the most urgent first."""
        found = {w.candidate.key: w.candidate for w in own.walkers if w.candidate is not None}
        effects: list[Effect] = [_label(candidate, "candidate") for candidate in found.values()]
        effects += [_label(candidate, "audit") for candidate in own.audits.values()]
        if own.reason:
            # Structures that nobody has begun to label are not bought any more.
            return [effect for effect in effects if effect.id in state.books.in_flight]
        training = any(walker.status == "training" for walker in own.walkers)
        moving = _moving(state, own)
        # As long as molecular dynamics finds something, it goes first: the reference gets its work
        # early, and labels that come together share their epochs of training.
        if training and not (moving and own.moving_pays):
            effects.append(self._train(state, own))
        elif moving:
            effects.append(_advance(state, own, moving))
        return effects

    def reason(self, own: ActiveState) -> str | None:
        """Why it ends."""
        return own.reason

    def delivers(self, state: State) -> bool:
        """Unless the models are converged first."""
        return not state.rules.converge_al

    def opening_words(self, state: State) -> str:
        """The rule of the threshold."""
        rules = state.rules
        return (
            f"The reference is asked where the uncertainty exceeds {rules.threshold_factor:g} "
            f"times the mean of the last {rules.uncertainty_window} uncertainties, after the first "
            f"{rules.uncertainty_warmup}"
        )

    def origin(self, own: ActiveState, key: str) -> Origin | None:
        """The walker that waits for it, or an audit."""
        waiting = [walker.candidate for walker in own.walkers if walker.candidate]
        for candidate in (*waiting, *own.audits.values()):
            if candidate.key == key:
                return Origin.of(candidate)
        return None

    def structures(self, state: State, own: ActiveState) -> Iterator[str]:
        """Audits, and what walkers wait for."""
        yield from own.audits
        yield from (w.candidate.key for w in own.walkers if w.candidate is not None)

    def walkers(self, own: ActiveState) -> Iterator[str]:
        """The file of all trajectories."""
        if own.file is not None:
            yield own.file

    def chosen(self, state: State) -> Iterator[StopCriterion]:
        """Those of `stop_when`."""
        return (STOP_CRITERIA[name] for name in state.rules.stop_when)

    def trajectories(self, state: State, own: ActiveState) -> Sequence[Trajectory]:
        """One a walker; all are finished when the stage is."""
        systems = state.rules.threshold_systems
        ended = state.stage != self.name
        return [
            Trajectory(
                walker.number,
                "finished" if ended else walker.status,
                walker.step,
                state.rules.max_MD_steps,
                walker.epochs_left if walker.status == "training" and not ended else 0,
                systems[walker.number] if systems else "",
            )
            for walker in own.walkers
        ]

    def remark(self, own: ActiveState) -> str:
        """Whether training is stuck."""
        return "no progress, the optimizer will start afresh" if own.reset_optimizer else ""

    def thresholds(self, state: State, own: ActiveState) -> Sequence[ThresholdNow]:
        """One for all, or one for each system."""
        rules, found = state.rules, []
        for system in dict.fromkeys(rules.threshold_systems) or [""]:
            estimates = own.n_estimates.get(system, 0)
            value = Threshold(rules.threshold, own.histories.get(system, ()), estimates).value
            found.append(
                ThresholdNow(
                    system,
                    value,
                    estimates,
                    rules.uncertainty_warmup,
                    rules.threshold_factor,
                    rules.uncertainty_window,
                )
            )
        return found

    def _train(self, state: State, own: ActiveState) -> Train:
        rules, books = state.rules, state.books
        return Train(
            id=f"train-{books.n_trained}",
            stage=self.name,
            weights=books.weights,
            members=tuple(range(rules.ensemble_size)),
            epochs=rules.intermediate_epochs,
            entries=books.entries,
            reset_optimizer=own.reset_optimizer,
            atomic_energies=books.given_energies,
        )


def _advanced(state: State, own: ActiveState, event: Advanced) -> None:
    rules = state.rules
    own.file = event.walkers
    for check in event.checks:
        for trajectory, uncertainty in zip(check.trajectories, check.uncertainties, strict=True):
            own.walkers[trajectory].quiet_checks += 1
            system = rules.threshold_systems[trajectory] if rules.threshold_systems else ""
            window: deque[float] = deque(maxlen=rules.uncertainty_window)
            own.histories.setdefault(system, window).append(uncertainty)
            own.n_estimates[system] = own.n_estimates.get(system, 0) + 1
    for trajectory, reached in zip(event.trajectories, event.steps, strict=True):
        walker = own.walkers[trajectory]
        if reached > walker.step:
            walker.breakdowns = 0
        walker.step, walker.reset = reached, False
        if reached >= rules.max_MD_steps:
            walker.move("finished")
    waiting = _n_waiting(own)
    for candidate in event.candidates:
        _chosen(state, own, candidate)
    own.moving_pays = _n_waiting(own) > waiting


def _n_waiting(own: ActiveState) -> int:
    return sum(walker.candidate is not None for walker in own.walkers)


def _chosen(state: State, own: ActiveState, candidate: Candidate) -> None:
    if candidate.reason == "unstable":
        state.books.unstable[candidate.key] = candidate
    if candidate.key in state.books.outcomes or candidate.key in own.audits:
        if candidate.reason == "unstable":
            _broken_again(state, own.walkers[candidate.trajectory], candidate)
        return
    if candidate.reason == "audit":
        # What a walker waits for is trained on, and so is no check of the models.
        if all(w.candidate is None or w.candidate.key != candidate.key for w in own.walkers):
            own.audits[candidate.key] = candidate
        return
    walker = own.walkers[candidate.trajectory]
    walker.quiet_checks = 0
    walker.candidate = candidate
    walker.move("labelling")


def _broken_again(state: State, walker: WalkerState, candidate: Candidate) -> None:
    """A walker breaks down where the reference has been asked already: another label won't help."""
    walker.breakdowns += 1
    walker.home, walker.reset = None, True
    if walker.breakdowns >= _MAX_BREAKDOWNS:
        state.books.failure = (
            f"trajectory {candidate.trajectory} broke down {walker.breakdowns} times without a "
            f"step, though its structure was computed: {candidate.detail}. The models are of no "
            "use there: look at the errors in the log, and at unstable.xyz beside the datasets; a "
            "lower TRAINING.lr or more initial data may help. If the limits of the MD section are "
            "too narrow for this system, widen them"
        )


def _answered(
    state: State,
    own: ActiveState,
    waiting: Sequence[WalkerState],
    event: Labelled | LabelRejected,
) -> None:
    """Let walkers know; several wait for one label where they broke down at the same start."""
    rules = state.rules
    rejected = isinstance(event, LabelRejected)
    learns = not rejected and _take(state, own, event.key) == "train"
    for walker in waiting:
        walker.candidate = None
        if rejected:
            walker.reset = True
        else:
            walker.home = event.key
        if learns:
            # A walker at its end trains as well: its label must not go to waste.
            walker.move("training")
            walker.entry = len(state.books.entries) - 1
            walker.epochs_left = rules.max_epochs_worker
        else:
            walker.go_on(rules.max_MD_steps)


def _take(state: State, own: ActiveState, key: str) -> Literal["train", "valid"]:
    """Give a label to all members; says into which set."""
    split = next_split(own.n_valid, own.n_added, state.rules.valid_ratio)
    own.n_added += 1
    own.n_valid += split == "valid"
    state.books.add(Entry(key, ALL_MEMBERS, split))
    return split


def _trained(state: State, own: ActiveState, event: Trained) -> None:
    rules = state.rules
    own.moving_pays = True
    own.epochs += event.epochs
    early = _go_on_early(state, own)
    for walker in own.walkers:
        if walker.status == "training" and walker.entry < event.n_entries:
            walker.epochs_left -= event.epochs
            if early or walker.epochs_left <= 0:
                walker.go_on(rules.max_MD_steps)
    losses = [m.valid_loss for m in event.members if m.valid_loss is not None]
    if own.reset_optimizer:
        own.reset_optimizer = False
        own.stale_epochs = 0
    if not losses:
        return
    loss = sum(losses) / len(losses)
    if own.best_loss is None or loss < own.best_loss - rules.margin:
        own.best_loss = loss
        own.stale_epochs = 0
    else:
        own.stale_epochs += event.epochs
        if own.stale_epochs >= rules.patience:
            own.reset_optimizer = True
            own.stuck += 1


def _go_on_early(state: State, own: ActiveState) -> bool:
    """Whether walkers may go on before their epochs of training are over.

    Walkers that wait together share epochs; those that wait one by one, as the reference is never
    to be idle, would have many more, and the reference would be idle after all. So where it runs
    out of work, it is enough that there have been as many epochs as for walkers that wait together.
    """
    rules = state.rules
    n_trained_on = own.n_added - own.n_valid
    keeps_pace = own.epochs * rules.num_trajectories >= rules.max_epochs_worker * n_trained_on
    # A group holds one structure in work and one queued: then there is none behind these.
    runs_dry = _n_waiting(own) <= 2 * rules.reference_groups
    return rules.asynchronous and keeps_pace and runs_dry


@lru_cache(maxsize=10_000)  # asked for again with every event while it waits
def _label(candidate: Candidate, purpose: str) -> Calculate:
    return Calculate(
        id=f"label-{candidate.key}",
        key=candidate.key,
        purpose="audit" if purpose == "audit" else "candidate",
        trajectory=candidate.trajectory,
        step=candidate.step,
        uncertainty=candidate.uncertainty,
        threshold=candidate.threshold,
        composition=candidate.composition,
    )


def _moving(state: State, own: ActiveState) -> tuple[int, ...]:
    """Walkers that may move: none of those beyond what the training set can still take."""
    running = [walker.number for walker in own.walkers if walker.status == "running"]
    limit = state.rules.set_limit
    if limit is None:
        return tuple(running)
    return tuple(running[: max(limit - state.books.train_size - _n_waiting(own), 0)])


def _advance(state: State, own: ActiveState, moving: tuple[int, ...]) -> Advance:
    rules = state.rules
    walkers = [own.walkers[trajectory] for trajectory in moving]
    every = rules.audit_every
    return Advance(
        id=f"advance-{state.books.n_advanced}",
        walkers=own.file,
        trajectories=moving,
        resets=tuple(
            Reset(trajectory, walker.home)
            for trajectory, walker in zip(moving, walkers, strict=True)
            if walker.reset
        ),
        weights=state.books.weights or "",
        histories=tuple(
            History(system, tuple(values), own.n_estimates[system])
            for system, values in own.histories.items()
        ),
        checks_left=tuple(rules.max_checks_without_label - w.quiet_checks for w in walkers),
        steps_left=tuple(rules.max_MD_steps - w.step for w in walkers),
        audits_due=tuple(every - w.step % every if every else -1 for w in walkers),
        n_train=state.books.train_size,
    )


ACTIVE_LEARNING = ActiveLearning("active_learning", "Active learning", "AL.log", "active learning")
