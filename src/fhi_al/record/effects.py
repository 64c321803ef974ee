"""What can be asked for: work that a procedure wants done now.

Effects are derived from the state, never stored. Each has an `id` that stays the same while it is
wanted, so that the controller knows what is already in work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fhi_al.record.events import Entry, Purpose, Stage


@dataclass(frozen=True)
class Calculate:
    """Ask the reference for energy, forces and stress of a stored structure.

    Attributes:
        key: names both the structure file to read and the label file to write.
        purpose: why it is wanted.
        trajectory: the walker that waits for it, or -1.
        step: MD step of that walker.
        uncertainty: what the committee said, or None.
        threshold: what that was compared with, or None.
        composition: equal where an engine can go on from one structure to the next; a hint, for
            the choice of a group.
    """

    id: str
    key: str
    purpose: Purpose
    trajectory: int = -1
    step: int = -1
    uncertainty: float | None = None
    threshold: float | None = None
    composition: str = ""


@dataclass(frozen=True)
class Isolate:
    """Write the isolated atoms of all species, in all their spin states, as structures."""

    id: str


@dataclass(frozen=True)
class Sample:
    """Make structures for the initial dataset, without the reference.

    Attributes:
        method: `foundation` (molecular dynamics with a pretrained model) or `perturb`.
        count: how many structures.
        first: how many were made before, over all rounds: seeds the noise of this round.
        walkers: walkers file to go on from, or None at the start.
    """

    id: str
    method: Literal["foundation", "perturb"]
    count: int
    first: int
    walkers: str | None


@dataclass(frozen=True)
class ReferenceStep:
    """Move a walker of the ab initio MD by one step, with the forces of a label.

    Attributes:
        geometry: number of the geometry that it started from.
        walkers: walkers file to go on from, or None: then its first structure is written.
        label: key of the label at the walker's present position, or None with `walkers` None.
        step: the number of the step after the move.
    """

    id: str
    walkers: str | None
    label: str | None
    step: int
    geometry: int = 0


@dataclass(frozen=True)
class Reset:
    """Put a walker back to a labelled structure (None: its geometry) with new velocities."""

    trajectory: int
    key: str | None


@dataclass(frozen=True)
class History:
    """Uncertainties so far, of all trajectories or of those of one system.

    Attributes:
        system: its name; empty for all trajectories.
        values: the newest uncertainties, oldest first, as the threshold rule needs them.
        n_estimates: how many there were in all.
    """

    system: str
    values: tuple[float, ...]
    n_estimates: int


@dataclass(frozen=True)
class Advance:
    """Run molecular dynamics with the committee until a threshold is crossed, or time is up.

    Attributes:
        walkers: walkers file of all trajectories, or None at the start.
        trajectories: those to move, in order; the others stay as they are.
        resets: walkers to be put back first.
        weights: checkpoint of the committee.
        histories: of uncertainties.
        checks_left: for each trajectory, checks until it is sampled whatever its uncertainty.
        steps_left: for each trajectory, MD steps until its end.
        audits_due: for each trajectory, MD steps until its next sanity check (-1: none).
        n_train: structures in the training set.
    """

    id: str
    walkers: str | None
    trajectories: tuple[int, ...]
    resets: tuple[Reset, ...]
    weights: str
    histories: tuple[History, ...]
    checks_left: tuple[int, ...]
    steps_left: tuple[int, ...]
    audits_due: tuple[int, ...]
    n_train: int = 0


@dataclass(frozen=True)
class Train:
    """Train members for some epochs and store a checkpoint of the whole committee.

    Attributes:
        stage: which rules apply (learning-rate scheduler, SWA, sets).
        weights: checkpoint to go on from, or None: new models.
        members: those that train; the others are carried over as they are.
        epochs: how many.
        entries: the datasets, in journal order.
        union: train every member on all training labels, validate on all validation labels.
        reset_optimizer: start with a fresh optimizer state.
        fresh: begin a stage: forget the best weights and patience of the stage before.
        atomic_energies: isolated-atom energies (element, eV) that the run has computed, or None:
            those of the settings, or a fit.
    """

    id: str
    stage: Stage
    weights: str | None
    members: tuple[int, ...]
    epochs: int
    entries: Sequence[Entry] = field(compare=False, repr=False)
    union: bool = False
    reset_optimizer: bool = False
    fresh: bool = False
    atomic_energies: tuple[tuple[str, float], ...] | None = None


@dataclass(frozen=True)
class Evaluate:
    """Measure the committee and its members on the validation set and on the user's test set."""

    id: str
    weights: str
    members: tuple[int, ...]
    entries: Sequence[Entry] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Export:
    """Write models, datasets and training histories where the manual puts them.

    Attributes:
        stage: the stage that has just ended; decides the folder.
        members: the members whose models are delivered.
    """

    id: str
    stage: Stage
    weights: str
    members: tuple[int, ...]
    entries: Sequence[Entry] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Import:
    """Take over datasets and models that the user brings, instead of an initial dataset.

    Attributes:
        atomic_energies: isolated-atom energies (element, eV) that the run has computed, or None.
    """

    id: str
    atomic_energies: tuple[tuple[str, float], ...] | None = None


@dataclass(frozen=True)
class Select:
    """Compare the structures of the pool with each other and with those that are known.

    Attributes:
        weights: checkpoint of the committee.
        waiting: keys of the structures in the pool, sorted.
        ahead: keys of structures that wait for their labels: as good as known.
        entries: the datasets.
        count: how many are to be chosen, at most.
        capacity: how many may stay in the pool, at most.
        by: what makes two structures alike, a key of `MEASURES`.
        alike: near-duplicates are those below this distance, in that measure.
        weight: of the score, from 0 (all for diversity) to 1 (all for the score).
    """

    id: str
    weights: str
    waiting: tuple[str, ...]
    ahead: tuple[str, ...]
    entries: Sequence[Entry] = field(compare=False, repr=False)
    count: int
    capacity: int
    by: str
    alike: float
    weight: float


Effect: TypeAlias = (
    Calculate
    | Isolate
    | Sample
    | ReferenceStep
    | Advance
    | Train
    | Evaluate
    | Export
    | Import
    | Select
)
