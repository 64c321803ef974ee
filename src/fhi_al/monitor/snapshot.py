"""A run at one instant, in numbers: what `FHI_AL-status` and the live view of a run show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fhi_al.analysis.accounting import RankRole
from fhi_al.procedures.procedure import ThresholdNow
from fhi_al.procedures.walkers import WalkerStatus
from fhi_al.record.events import Goal, Stage

Condition = Literal["starting", "running", "stopping", "finished", "stopped", "failed", "crashed"]


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
class TrajectoryView:
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

    role: RankRole
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
        silent_seconds: since its last sign of life, which comes every 20 s; None where none works.
        goal: of that command.
        stage: of the run.
        stage_words: its name in a sentence.
        moves: whether it moves trajectories.
        at_most: whether it often ends before its numbers are at their limits.
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
    silent_seconds: float | None
    goal: Goal
    stage: Stage
    stage_words: str
    moves: bool
    at_most: bool
    time: float
    last_record: float
    opened: float
    seconds: float
    stage_seconds: float
    commands: int
    in_work: tuple[InWork, ...]
    queue: LabelQueue
    trajectories: tuple[TrajectoryView, ...]
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
