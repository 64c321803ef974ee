"""The state of a run: what follows from the events so far.

It is books, which all procedures share, and what each stage owns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fhi_al.procedures.rules import Rules
from fhi_al.record.events import (
    ALL_MEMBERS,
    Candidate,
    Entry,
    Errors,
    MemberState,
    RejectionKind,
    Started,
)

DONE = "done"
"""In place of the name of a stage: the procedure is at its end."""


@dataclass(frozen=True)
class Origin:
    """Where a structure comes from.

    Attributes:
        trajectory: the walker, or -1.
        step: MD step of that walker, or -1.
        uncertainty: of the committee there in eV/Å, or None.
        threshold: what that was compared with, or None.
    """

    trajectory: int = -1
    step: int = -1
    uncertainty: float | None = None
    threshold: float | None = None

    @classmethod
    def of(cls, candidate: Candidate) -> Origin:
        """Where a structure of active learning comes from."""
        return cls(candidate.trajectory, candidate.step, candidate.uncertainty, candidate.threshold)


@dataclass(frozen=True)
class Rejection:
    """Why a structure has no label that could be trained on.

    Attributes:
        kind: what failed.
        reason: in words.
        attempts: calculations that were made.
        origin: where the structure comes from.
    """

    kind: RejectionKind
    reason: str
    attempts: int = 1
    origin: Origin = Origin()


@dataclass
class Books:
    """What is kept of a run whatever its procedure; see `books` for how.

    Attributes:
        in_flight: effects handed out by this command and not finished, by id.
        outcomes: key -> whether it got a label, for every structure with an outcome.
        entries: datasets, in the order in which the labels came.
        train_sizes: structures in each member's training set.
        n_valid: structures in all validation sets together.
        apart: keys that belong to no dataset (isolated atoms).
        n_rejected: outcomes without a label; a structure may fail more than once.
        rejected: key -> why it got no label.
        retries: keys of rejected structures that the user wants to be tried again.
        deaths: key -> the marks of library deaths, of structures that have no outcome yet.
        unstable: key -> the last sane frame of a walker that broke down.
        energies: chemical formula -> the energies of its labels in eV, sorted.
        atomic_energies: element -> eV of the isolated atom, where the run has computed them.
        weights: the newest checkpoint of the committee, or None.
        members: of the committee after its last training.
        n_trained: trainings so far, which number the checkpoints.
        n_advanced: pieces of molecular dynamics so far, likewise.
        errors: of the models, when they were last measured.
        evaluated: the checkpoint that this was.
        exported: stage -> files that it has delivered.
        imported: whether data that the user brings was taken over.
        failure: why the run can't go on.
    """

    in_flight: dict[str, Started] = field(default_factory=dict)
    outcomes: dict[str, bool] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    train_sizes: list[int] = field(default_factory=list)
    n_valid: int = 0
    apart: set[str] = field(default_factory=set)
    n_rejected: int = 0
    rejected: dict[str, Rejection] = field(default_factory=dict)
    retries: dict[str, None] = field(default_factory=dict)
    deaths: dict[str, list[str]] = field(default_factory=dict)
    unstable: dict[str, Candidate] = field(default_factory=dict)
    energies: dict[str, list[float]] = field(default_factory=dict)
    atomic_energies: dict[str, float] | None = None
    weights: str | None = None
    members: tuple[MemberState, ...] = ()
    n_trained: int = 0
    n_advanced: int = 0
    errors: tuple[Errors, ...] = ()
    evaluated: str | None = None
    exported: dict[str, tuple[str, ...]] = field(default_factory=dict)
    imported: bool = False
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

    @property
    def force_mae(self) -> float | None:
        """Mean over members of the validation force MAE in eV/Å, where all have been validated."""
        values = [member.force_mae for member in self.members if member.force_mae is not None]
        return sum(values) / len(values) if values and len(values) == len(self.members) else None


@dataclass
class State:
    """Everything that a procedure knows.

    Attributes:
        rules: of the command that was started last.
        goal: name of its procedure, a key of `PIPELINES`.
        stage: name of the stage that it is in, or `DONE`.
        elements: chemical symbols in all geometries.
        books: what all procedures share.
        stages: name -> what a stage owns, of those that have begun.
        passed: names of the stages that are over, in order.
    """

    rules: Rules
    goal: str
    stage: str = ""
    elements: tuple[str, ...] = ()
    books: Books = field(default_factory=Books)
    stages: dict[str, Any] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
