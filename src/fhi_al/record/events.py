"""What can happen: facts, kept in the journal.

Events, and the effects that lead to them, are small frozen dataclasses of scalars, strings and
tuples: arrays lie in files (labels, structures, walkers, weights) that they name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fhi_al.record.candidates import Candidate as Candidate
from fhi_al.record.candidates import Check as Check
from fhi_al.record.outcome import Outcome, Place, Worker

Goal: TypeAlias = str
"""Name of a procedure, a key of `PIPELINES`."""

Stage: TypeAlias = str
"""Name of a stage of a procedure."""

Split = Literal["train", "valid", "audit"]
Purpose = Literal["atom", "md", "initial", "candidate", "audit", "dataset"]
RejectionKind = Literal["scf", "integrity", "outlier", "library death"]

ALL_MEMBERS = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """One label's place in the datasets.

    Attributes:
        key: the label's key.
        member: the member that owns it, or ALL_MEMBERS.
        split: what it is used for. Audit labels are never trained on.
    """

    key: str
    member: int
    split: Split


@dataclass(frozen=True, slots=True)
class Opened:
    """A command was started in this folder: the first record, and one for every restart.

    Attributes:
        goal: what the command is to reach.
        settings: the resolved settings, as the procedures need them.
        engine: digest of the reference engine.
        version: of this program.
        n_atoms: atoms in the first geometry.
        elements: chemical symbols in all geometries, sorted.
        host: where rank 0 runs.
        time: seconds since 1970.
        startup_s: that the command took to get here.
        places: of all ranks, in their order.
        run: name of the run, the same in all its events of this kind.
        inputs: all settings of the input files, as `SECTION.name`, to be compared with later ones.
    """

    goal: Goal
    settings: Mapping[str, Any]
    engine: str
    version: str
    n_atoms: int
    elements: tuple[str, ...]
    host: str
    time: float
    startup_s: float = 0.0
    places: tuple[Place, ...] = ()
    run: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """An effect was handed to a worker. Without an outcome later, it was cut off.

    Attributes:
        effect: its id.
        worker: who is to do it.
        kind: of effect: the name of its class.
    """

    effect: str
    worker: Worker
    kind: str


@dataclass(frozen=True, slots=True)
class Isolated(Outcome):
    """The isolated atoms to be labelled: (element, unpaired electrons, key) each.

    Attributes:
        known: (element, eV) where the engine, a pretrained model, has its own; none is labelled.
    """

    atoms: tuple[tuple[str, int, str], ...]
    known: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Labelled(Outcome):
    """A label is in the store.

    Attributes:
        energy: of the label, in eV.
        seconds: that the engine worked; 0 where the label was there already.
        force_error: MAE in eV/Å of the forces predicted when the structure was chosen, or None.
        formula: chemical formula of the structure; with `n_atoms`, what energies are compared by.
        rescue: the settings by which the SCF converged, where it took others than the normal ones.
    """

    key: str
    energy: float
    seconds: float
    force_error: float | None = None
    formula: str = ""
    n_atoms: int = 0
    rescue: str = ""


@dataclass(frozen=True, slots=True)
class LabelRejected(Outcome):
    """The reference has no usable result for this structure.

    Attributes:
        kind: what failed.
        attempts: calculations that were made, those of the rescue ladder included.
    """

    key: str
    reason: str
    seconds: float
    kind: RejectionKind = "scf"
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Died:
    """The reference library took its process down; its mark was found at the next start.

    Attributes:
        key: of the structure that was in work.
        how: the signal, `MPI_Abort` or `exit`.
        words: the last that the process said on standard error.
        mark: tells this death from others of the same structure.
    """

    key: str
    how: str
    words: str
    mark: str


@dataclass(frozen=True, slots=True)
class Retried:
    """The user wants rejected structures to be tried again."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sampled(Outcome):
    """Structures for the initial dataset, or to be recalculated, were written.

    Attributes:
        walkers: where the sampling MD stands, or None.
        keys: of the structures, in the order of sampling.
        seconds: of work.
        compositions: chemical formulas of the structures; none in journals of earlier versions.
        geometry: number of the geometry that an ab initio MD started from.
    """

    walkers: str | None
    keys: tuple[str, ...]
    seconds: float
    compositions: tuple[str, ...] = ()
    geometry: int = 0


@dataclass(frozen=True, slots=True)
class Advanced(Outcome):
    """Molecular dynamics went on.

    Attributes:
        walkers: file with all walkers as they are now.
        trajectories: the walkers that moved.
        steps: MD step that each has reached.
        checks: in order of time.
        candidates: in order of time, then trajectory.
        seconds: of work.
        path: how the forces were computed (`eager`, `compiled`, ...).
    """

    walkers: str
    trajectories: tuple[int, ...]
    steps: tuple[int, ...]
    checks: tuple[Check, ...]
    candidates: tuple[Candidate, ...]
    seconds: float
    path: str


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member after training.

    Attributes:
        epoch: epochs of training in its life.
        loss: mean training loss of the last epoch.
        valid_loss: with the EMA weights, at the last validation; None where it has not been.
        force_mae: on its validation set, in eV/Å.
        energy_mae: on its validation set, in eV per atom.
        best_force_mae: the lowest of this stage.
        best_loss: the lowest validation loss of this stage.
        stale_epochs: since the best loss improved by more than `margin`.
        n_train: structures trained on.
        n_valid: structures validated on.
        n_energies: of those trained on, with an energy that enters the loss.
        n_forces: likewise with forces.
        n_stresses: likewise with a stress (or virials).
    """

    epoch: int
    loss: float
    valid_loss: float | None
    force_mae: float | None
    energy_mae: float | None
    best_force_mae: float | None
    best_loss: float | None
    stale_epochs: int
    n_train: int
    n_valid: int
    n_energies: int = 0
    n_forces: int = 0
    n_stresses: int = 0


@dataclass(frozen=True, slots=True)
class Trained(Outcome):
    """A checkpoint of the whole committee is stored.

    Attributes:
        weights: its name.
        members: all members, in order.
        trained: which of them trained just now.
        epochs: how many.
        n_entries: how much of the datasets they saw.
        history: one record a validation: (member, epoch, loss, valid_loss, force_mae, energy_mae).
        seconds: of work.
    """

    weights: str
    members: tuple[MemberState, ...]
    trained: tuple[int, ...]
    epochs: int
    n_entries: int
    history: tuple[tuple[int, int, float, float, float, float], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one model, or of the committee, on one dataset.

    Attributes:
        who: `member 0`, ..., or `committee`.
        data: `validation` or `test`.
        force_mae: eV/Å, over all components of all atoms, like the three below.
        force_rmse: eV/Å.
        energy_mae: eV per atom.
        energy_rmse: eV per atom.
        n_structures: in the dataset.
        system: formula of the structures that this is about; empty for all.
    """

    who: str
    data: Literal["validation", "test"]
    force_mae: float
    force_rmse: float
    energy_mae: float
    energy_rmse: float
    n_structures: int
    system: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated(Outcome):
    """The errors of a checkpoint."""

    errors: tuple[Errors, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Exported(Outcome):
    """Files for the user were written; paths relative to the run's folder."""

    files: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Imported(Outcome):
    """The user's data and models were taken over as label files and a checkpoint.

    Attributes:
        weights: checkpoint of the imported models, or None: new ones are trained.
        entries: the imported labels.
        files: where they came from.
    """

    weights: str | None
    entries: tuple[Entry, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selected(Outcome):
    """The structures of the pool were compared, and some of them chosen.

    Attributes:
        weights: checkpoint of the committee that was asked.
        scores: (key, score in eV/Å) of those that were chosen or stay.
        dropped: (key, why, in words) of those that leave the pool without a label.
        chosen: keys of those that are worth a label, the best first.
        seconds: of work.
    """

    weights: str
    scores: tuple[tuple[str, float], ...]
    dropped: tuple[tuple[str, str], ...]
    chosen: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A rank broke down; the run ends. What it was there for, `Opened.places` tells."""

    host: str
    rank: int
    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The command ends in an orderly way; effects started but not finished don't count.

    Where it was asked to stop, this is written at once; what ends in time still follows.
    """

    reason: str
    time: float


Event: TypeAlias = (
    Opened
    | Started
    | Isolated
    | Labelled
    | LabelRejected
    | Died
    | Retried
    | Sampled
    | Advanced
    | Trained
    | Evaluated
    | Exported
    | Imported
    | Selected
    | Failed
    | Closed
)
