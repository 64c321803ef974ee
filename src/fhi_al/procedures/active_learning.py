"""Active learning: move, doubt, ask, learn."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from fhi_al.procedures.split import next_split
from fhi_al.procedures.state import ActiveState, State, WalkerState
from fhi_al.procedures.stop import first_reason
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


def begin(state: State) -> None:
    """Put all walkers at their start."""
    state.active = ActiveState([WalkerState() for _ in range(state.rules.num_trajectories)])


def take_over(state: State) -> None:
    """Go on by rules that a new command has brought: more trajectories, longer ones."""
    assert state.active is not None
    rules, walkers = state.rules, state.active.walkers
    walkers += [WalkerState() for _ in range(rules.num_trajectories - len(walkers))]
    for walker in walkers:
        if walker.status in ("running", "finished"):
            walker.status = "finished" if walker.step >= rules.max_MD_steps else "running"


def step(state: State, event: Event) -> None:
    """Take an event into the state."""
    active = state.active
    if active is None:
        return
    if isinstance(event, Advanced):
        _advanced(state, active, event)
    elif isinstance(event, (Labelled, LabelRejected)):
        audit = active.audits.pop(event.key, None)
        if audit is not None and isinstance(event, Labelled):
            state.add(Entry(event.key, ALL_MEMBERS, "audit"))
        if waiting := [w for w in active.walkers if w.candidate and w.candidate.key == event.key]:
            _answered(state, active, waiting, event)
    elif isinstance(event, Trained):
        _trained(state, active, event)
    active.reason = active.reason or first_reason(state)


def _advanced(state: State, active: ActiveState, event: Advanced) -> None:
    rules = state.rules
    active.file = event.walkers
    for check in event.checks:
        for trajectory, uncertainty in zip(check.trajectories, check.uncertainties, strict=True):
            active.walkers[trajectory].quiet_checks += 1
            system = rules.threshold_systems[trajectory] if rules.threshold_systems else ""
            window: deque[float] = deque(maxlen=rules.uncertainty_window)
            active.histories.setdefault(system, window).append(uncertainty)
            active.n_estimates[system] = active.n_estimates.get(system, 0) + 1
    for trajectory, reached in zip(event.trajectories, event.steps, strict=True):
        walker = active.walkers[trajectory]
        if reached > walker.step:
            walker.breakdowns = 0
        walker.step, walker.reset = reached, False
        if reached >= rules.max_MD_steps:
            walker.status = "finished"
    waiting = _n_waiting(active)
    for candidate in event.candidates:
        _chosen(state, active, candidate)
    active.moving_pays = _n_waiting(active) > waiting


def _n_waiting(active: ActiveState) -> int:
    return sum(walker.candidate is not None for walker in active.walkers)


def _chosen(state: State, active: ActiveState, candidate: Candidate) -> None:
    if candidate.reason == "unstable":
        state.unstable[candidate.key] = candidate
    if candidate.key in state.outcomes or candidate.key in active.audits:
        if candidate.reason == "unstable":
            _broken_again(state, active.walkers[candidate.trajectory], candidate)
        return
    if candidate.reason == "audit":
        # What a walker waits for is trained on, and so is no check of the models.
        if all(w.candidate is None or w.candidate.key != candidate.key for w in active.walkers):
            active.audits[candidate.key] = candidate
        return
    walker = active.walkers[candidate.trajectory]
    walker.quiet_checks = 0
    walker.status, walker.candidate = "labelling", candidate


def _broken_again(state: State, walker: WalkerState, candidate: Candidate) -> None:
    """A walker breaks down where the reference has been asked already: another label won't help."""
    walker.breakdowns += 1
    walker.home, walker.reset = None, True
    if walker.breakdowns >= _MAX_BREAKDOWNS:
        state.failure = (
            f"trajectory {candidate.trajectory} broke down {walker.breakdowns} times without a "
            f"step, though its structure was computed: {candidate.detail}. The models are of no "
            "use there: look at the errors in the log, and at unstable.xyz beside the datasets; a "
            "lower TRAINING.lr or more initial data may help. If the limits of the MD section are "
            "too narrow for this system, widen them"
        )


def _answered(
    state: State,
    active: ActiveState,
    waiting: Sequence[WalkerState],
    event: Labelled | LabelRejected,
) -> None:
    """Let walkers know; several wait for one label where they broke down at the same start."""
    rules = state.rules
    for walker in waiting:
        walker.candidate = None
        walker.status = "finished" if walker.step >= rules.max_MD_steps else "running"
        if isinstance(event, LabelRejected):
            walker.reset = True
        else:
            walker.home = event.key
    if isinstance(event, LabelRejected):
        return
    if take(state, active, event.key) == "valid":
        return
    for walker in waiting:
        # A walker at its end trains as well: its label must not go to waste.
        walker.status = "training"
        walker.entry = len(state.entries) - 1
        walker.epochs_left = rules.max_epochs_worker


def take(state: State, active: ActiveState, key: str) -> Literal["train", "valid"]:
    """Give a label to all members; says into which set."""
    split = next_split(active.n_valid, active.n_added, state.rules.valid_ratio)
    active.n_added += 1
    active.n_valid += split == "valid"
    state.add(Entry(key, ALL_MEMBERS, split))
    return split


def _trained(state: State, active: ActiveState, event: Trained) -> None:
    rules = state.rules
    active.moving_pays = True
    active.epochs += event.epochs
    early = _go_on_early(state, active)
    for walker in active.walkers:
        if walker.status == "training" and walker.entry < event.n_entries:
            walker.epochs_left -= event.epochs
            if early or walker.epochs_left <= 0:
                ended = walker.step >= rules.max_MD_steps
                walker.status = "finished" if ended else "running"
    losses = [m.valid_loss for m in event.members if m.valid_loss is not None]
    if active.reset_optimizer:
        active.reset_optimizer = False
        active.stale_epochs = 0
    if not losses:
        return
    loss = sum(losses) / len(losses)
    if active.best_loss is None or loss < active.best_loss - rules.margin:
        active.best_loss = loss
        active.stale_epochs = 0
    else:
        active.stale_epochs += event.epochs
        if active.stale_epochs >= rules.patience:
            active.reset_optimizer = True
            active.stuck += 1


def _go_on_early(state: State, active: ActiveState) -> bool:
    """Whether walkers may go on before their epochs of training are over.

    Walkers that wait together share epochs; those that wait one by one, as the reference is never
    to be idle, would have many more, and the reference would be idle after all. So where it runs
    out of work, it is enough that there have been as many epochs as for walkers that wait together.
    """
    rules = state.rules
    n_trained_on = active.n_added - active.n_valid
    keeps_pace = active.epochs * rules.num_trajectories >= rules.max_epochs_worker * n_trained_on
    # A group holds one structure in work and one queued: then there is none behind these.
    runs_dry = _n_waiting(active) <= 2 * rules.reference_groups
    return rules.asynchronous and keeps_pace and runs_dry


def wanted(state: State) -> list[Effect]:
    """What should be running now, the most urgent first."""
    active = state.active
    if active is None:
        return []
    candidates = {w.candidate.key: w.candidate for w in active.walkers if w.candidate is not None}
    effects: list[Effect] = [_label(candidate, "candidate") for candidate in candidates.values()]
    effects += [_label(candidate, "audit") for candidate in active.audits.values()]
    if active.reason:
        # Structures that nobody has begun to label are not bought any more.
        return [effect for effect in effects if effect.id in state.in_flight]
    training = any(walker.status == "training" for walker in active.walkers)
    moving = _moving(state, active)
    # As long as molecular dynamics finds something, it goes first: the reference gets its work
    # early, and labels that come together share their epochs of training.
    if training and not (moving and active.moving_pays):
        effects.append(_train(state, active))
    elif moving:
        effects.append(_advance(state, active, moving))
    return effects


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


def _moving(state: State, active: ActiveState) -> tuple[int, ...]:
    """Walkers that may move: none of those beyond what the training set can still take."""
    running = [i for i, walker in enumerate(active.walkers) if walker.status == "running"]
    limit = state.rules.set_limit
    if limit is None:
        return tuple(running)
    return tuple(running[: max(limit - state.train_size - _n_waiting(active), 0)])


def _advance(state: State, active: ActiveState, moving: tuple[int, ...]) -> Advance:
    rules = state.rules
    walkers = [active.walkers[trajectory] for trajectory in moving]
    every = rules.audit_every
    return Advance(
        id=f"advance-{state.n_advanced}",
        walkers=active.file,
        trajectories=moving,
        resets=tuple(
            Reset(trajectory, walker.home)
            for trajectory, walker in zip(moving, walkers, strict=True)
            if walker.reset
        ),
        weights=state.weights or "",
        histories=tuple(
            History(system, tuple(values), active.n_estimates[system])
            for system, values in active.histories.items()
        ),
        checks_left=tuple(rules.max_checks_without_label - w.quiet_checks for w in walkers),
        steps_left=tuple(rules.max_MD_steps - w.step for w in walkers),
        audits_due=tuple(every - w.step % every if every else -1 for w in walkers),
        n_train=state.train_size,
    )


def _train(state: State, active: ActiveState) -> Train:
    rules = state.rules
    return Train(
        id=f"train-{state.n_trained}",
        stage="active_learning",
        weights=state.weights,
        members=tuple(range(rules.ensemble_size)),
        epochs=rules.intermediate_epochs,
        entries=state.entries,
        reset_optimizer=active.reset_optimizer,
        atomic_energies=state.given_energies,
    )


def settled(state: State) -> bool:
    """Whether the stage is over and nothing of it is in work."""
    active = state.active
    return bool(active and active.reason) and not wanted(state) and not state.in_flight
