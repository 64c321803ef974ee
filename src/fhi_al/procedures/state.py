"""The state of a run: what follows from the events so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from fhi_al.procedures.rules import Rules
from fhi_al.record.events import (
    ALL_MEMBERS,
    Candidate,
    Entry,
    Errors,
    Goal,
    MemberState,
    RejectionKind,
    Stage,
    Started,
)

WalkerStatus = Literal["running", "labelling", "training", "finished"]


@dataclass
class AtomsState:
    """Isolated atoms on their way to reference energies.

    Attributes:
        spins: key -> (element, unpaired electrons); None before the atoms are written.
        energies: (element, unpaired electrons) -> eV, of those that converged.
    """

    spins: dict[str, tuple[str, int]] | None = None
    energies: dict[tuple[str, int], float] = field(default_factory=dict)


@dataclass
class ReferenceMd:
    """An ab initio MD, from one geometry.

    Attributes:
        walkers: file in which it stands.
        step: steps so far; -1 before its first structure.
        key: the structure at its present position.
        labelled: whether that structure has its label.
    """

    walkers: str | None = None
    step: int = -1
    key: str | None = None
    labelled: bool = False


@dataclass
class InitialState:
    """The initial dataset.

    Attributes:
        sampled: rounds whose structures are all chosen.
        labelled: rounds whose structures all have an outcome.
        trained: rounds that have been trained on.
        waiting: keys of chosen structures without an outcome yet, with their compositions.
        n_sampled: structures chosen so far, over all rounds.
        round_taken: structures that the ab initio MD has given to the present round.
        walkers: file in which the sampling MD stands.
        reference_md: geometry -> the ab initio MD from there.
        epochs: trained in this stage; `round_epochs` of them in the present round.
        reason: why the stage ended.
    """

    sampled: int = 0
    labelled: int = 0
    trained: int = 0
    waiting: dict[str, str] = field(default_factory=dict)
    n_sampled: int = 0
    round_taken: int = 0
    walkers: str | None = None
    reference_md: dict[int, ReferenceMd] = field(default_factory=dict)
    epochs: int = 0
    round_epochs: int = 0
    reason: str | None = None


@dataclass
class WalkerState:
    """One trajectory of active learning.

    Attributes:
        step: MD steps done.
        quiet_checks: checks since its last label.
        candidate: what it waits for, while labelling.
        entry: index of its newest training entry, while training.
        epochs_left: before it moves on, while training.
        home: key of its last labelled structure; None means its geometry.
        reset: it must be put back to `home` before it moves.
        breakdowns: in a row, without a step, at structures that the reference has been asked for.
    """

    status: WalkerStatus = "running"
    step: int = 0
    quiet_checks: int = 0
    candidate: Candidate | None = None
    entry: int = -1
    epochs_left: int = 0
    home: str | None = None
    reset: bool = False
    breakdowns: int = 0


@dataclass
class ActiveState:
    """Active learning.

    Attributes:
        audits: sanity checks that wait for their label, by key.
        histories: system (or `` for all) -> its newest uncertainties.
        n_estimates: system -> how many there were in all.
        moving_pays: whether the last molecular dynamics found a structure, or none was run since
            the last training.
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


@dataclass
class ConvergenceState:
    """Training to convergence, of the initial or of the final models.

    Attributes:
        members: those that are converged.
        epochs: done in this stage.
        seconds_per_epoch: of the last training, or None.
    """

    members: tuple[int, ...]
    epochs: int = 0
    seconds_per_epoch: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Rejection:
    """Why a structure has no label that could be trained on.

    Attributes:
        kind: what failed.
        reason: in words.
        attempts: calculations that were made.
        trajectory: the walker that it comes from, or -1.
        step: MD step of that walker, or -1.
        uncertainty: of the committee there in eV/Å, or None.
        threshold: what that was compared with, or None.
    """

    kind: RejectionKind
    reason: str
    attempts: int = 1
    trajectory: int = -1
    step: int = -1
    uncertainty: float | None = None
    threshold: float | None = None


@dataclass
class State:
    """Everything that the procedures know.

    Attributes:
        goal: of the command that was started last.
        entries: datasets, in the order in which the labels came.
        train_sizes: structures in each member's training set.
        n_valid: structures in all validation sets together.
        outcomes: key -> whether it got a label, for every structure with an outcome.
        rejected: key -> why it got none.
        unstable: key -> the last sane frame of a walker that broke down.
        retries: keys of rejected structures that the user wants to be tried again.
        deaths: key -> the marks of library deaths, of structures that have no outcome yet.
        energies: chemical formula -> the energies of its labels in eV, sorted.
        in_flight: effects handed out by this command and not finished, by id.
        n_trained: trainings so far, which number the checkpoints; likewise the other counts.
        exported: stages whose files are written.
        dataset: key -> composition of the structures to be recalculated; None: not known yet.
        failure: why the run can't go on.
    """

    rules: Rules
    goal: Goal
    stage: Stage
    elements: tuple[str, ...] = ()
    entries: list[Entry] = field(default_factory=list)
    train_sizes: list[int] = field(default_factory=list)
    n_valid: int = 0
    outcomes: dict[str, bool] = field(default_factory=dict)
    n_rejected: int = 0
    rejected: dict[str, Rejection] = field(default_factory=dict)
    unstable: dict[str, Candidate] = field(default_factory=dict)
    retries: dict[str, None] = field(default_factory=dict)
    deaths: dict[str, list[str]] = field(default_factory=dict)
    energies: dict[str, list[float]] = field(default_factory=dict)
    in_flight: dict[str, Started] = field(default_factory=dict)
    weights: str | None = None
    members: tuple[MemberState, ...] = ()
    n_trained: int = 0
    n_advanced: int = 0
    atomic_energies: dict[str, float] | None = None
    atoms: AtomsState = field(default_factory=AtomsState)
    initial: InitialState = field(default_factory=InitialState)
    active: ActiveState | None = None
    convergence: ConvergenceState | None = None
    errors: tuple[Errors, ...] = ()
    evaluated: str | None = None
    exported: dict[Stage, tuple[str, ...]] = field(default_factory=dict)
    imported: bool = False
    dataset: dict[str, str] | None = None
    failure: str | None = None

    def add(self, entry: Entry) -> None:
        """Put a label into the datasets."""
        self.entries.append(entry)
        if entry.split == "valid":
            self.n_valid += 1
        elif entry.split == "train":
            owners = range(len(self.train_sizes)) if entry.member == ALL_MEMBERS else [entry.member]
            for member in owners:
                self.train_sizes[member] += 1

    @property
    def given_energies(self) -> tuple[tuple[str, float], ...] | None:
        """Computed isolated-atom energies in eV, as an effect carries them."""
        if self.atomic_energies is None:
            return None
        return tuple(sorted(self.atomic_energies.items()))

    @property
    def train_size(self) -> int:
        """Size of the largest training set of a member."""
        return max(self.train_sizes)

    def force_mae(self) -> float | None:
        """Mean over members of the validation force MAE in eV/Å, where all have been validated."""
        values = [member.force_mae for member in self.members if member.force_mae is not None]
        return sum(values) / len(values) if values and len(values) == len(self.members) else None
