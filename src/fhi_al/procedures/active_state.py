"""What active learning knows, and what events mean to it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fhi_al.procedures.pool import Pool
from fhi_al.procedures.split import next_split
from fhi_al.procedures.state import State
from fhi_al.procedures.walkers import WalkerState
from fhi_al.record.events import (
    ALL_MEMBERS,
    Advanced,
    Candidate,
    Entry,
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
        pool: structures that no walker waits for.
        lesson: index of the newest training entry that comes from the pool; `lesson_epochs` are
            left before it is learned.
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
    pool: Pool = field(default_factory=Pool)
    lesson: int = -1
    lesson_epochs: int = 0
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

    @property
    def idle(self) -> bool:
        """Whether no walker moves or waits, and nothing of the pool is to be chosen or learned."""
        moves = any(walker.status != "finished" for walker in self.walkers)
        return not moves and not self.pool and not self.lesson_epochs


def advanced(state: State, own: ActiveState, event: Advanced) -> None:
    """Take what molecular dynamics has found."""
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
    waiting = n_waiting(own)
    for candidate in event.candidates:
        _chosen(state, own, candidate)
    own.moving_pays = n_waiting(own) > waiting


def n_waiting(own: ActiveState) -> int:
    """Walkers that wait for a label."""
    return sum(walker.candidate is not None for walker in own.walkers)


def _chosen(state: State, own: ActiveState, candidate: Candidate) -> None:
    if candidate.reason == "unstable":
        state.books.unstable[candidate.key] = candidate
    if candidate.key in state.books.outcomes or candidate.key in own.audits:
        if candidate.reason == "unstable":
            _broken_again(state, own.walkers[candidate.trajectory], candidate)
        return
    if candidate.reason == "audit":
        # What is trained on is no check of the models.
        if not _awaited(own, candidate.key) and candidate.key not in own.pool:
            own.audits[candidate.key] = candidate
        return
    walker = own.walkers[candidate.trajectory]
    walker.quiet_checks = 0
    if not candidate.blocks:
        if not _awaited(own, candidate.key):
            own.pool.enter(state.books, candidate)
        return
    own.pool.leave(candidate.key)
    walker.candidate = candidate
    walker.move("labelling")


def _awaited(own: ActiveState, key: str) -> bool:
    """Whether a walker waits for the label of a structure."""
    return any(w.candidate is not None and w.candidate.key == key for w in own.walkers)


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


def answered(state: State, own: ActiveState, event: Labelled | LabelRejected) -> None:
    """Take what the reference says, of whoever asked it."""
    audit = own.audits.pop(event.key, None)
    if audit is not None and isinstance(event, Labelled):
        state.books.add(Entry(event.key, ALL_MEMBERS, "audit"))
    pooled = own.pool.leave(event.key)
    if waiting := [w for w in own.walkers if w.candidate and w.candidate.key == event.key]:
        _answered(state, own, waiting, event)
    elif pooled and isinstance(event, Labelled):
        _learn(state, own, event.key)


def _answered(
    state: State,
    own: ActiveState,
    waiting: Sequence[WalkerState],
    event: Labelled | LabelRejected,
) -> None:
    """Let walkers know; several wait for one label where they broke down at the same start."""
    rules = state.rules
    rejected = isinstance(event, LabelRejected)
    learns = not rejected and take(state, own, event.key) == "train"
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


def _learn(state: State, own: ActiveState, key: str) -> None:
    """Train on a structure of the pool for as long as on one that a walker waits for."""
    if take(state, own, key) == "train":
        own.lesson = len(state.books.entries) - 1
        own.lesson_epochs = state.rules.max_epochs_worker


def take(state: State, own: ActiveState, key: str) -> Literal["train", "valid"]:
    """Give a label to all members; says into which set."""
    split = next_split(own.n_valid, own.n_added, state.rules.valid_ratio)
    own.n_added += 1
    own.n_valid += split == "valid"
    state.books.add(Entry(key, ALL_MEMBERS, split))
    return split


def trained(state: State, own: ActiveState, event: Trained) -> None:
    """Take what was learned."""
    rules = state.rules
    own.moving_pays = True
    own.epochs += event.epochs
    early = _go_on_early(state, own)
    for walker in own.walkers:
        if walker.status == "training" and walker.entry < event.n_entries:
            walker.epochs_left -= event.epochs
            if early or walker.epochs_left <= 0:
                walker.go_on(rules.max_MD_steps)
    if own.lesson < event.n_entries:
        own.lesson_epochs = 0 if early else max(own.lesson_epochs - event.epochs, 0)
    own.pool.renew(state.books.in_flight)
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
    runs_dry = n_waiting(own) + len(own.pool.chosen) <= 2 * rules.reference_groups
    return rules.asynchronous and keeps_pace and runs_dry


def room(state: State, own: ActiveState) -> int:
    """Labels that may still be bought, beside those that are wanted already."""
    limit = state.rules.set_limit
    if limit is None:
        return sys.maxsize
    return limit - state.books.train_size - n_waiting(own) - len(own.pool.chosen)
