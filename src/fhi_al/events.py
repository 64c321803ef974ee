"""What can happen: facts, kept in the journal.

Events, and the effects that lead to them, are small frozen dataclasses of scalars, strings and
tuples: arrays lie in files (labels, structures, walkers, weights) that they name.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, Union

Goal = Literal["run", "initial_dataset", "active_learning", "atomic_energies"]
Stage = Literal[
    "atomic_energies",
    "import",
    "initial_dataset",
    "converge_initial",
    "active_learning",
    "convergence",
    "done",
]
Split = Literal["train", "valid", "audit"]
Purpose = Literal["atom", "md", "initial", "candidate", "audit"]

ALL_MEMBERS = -1


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
        geometries: (file, digest) of each structure that trajectories start from.
    """

    goal: Goal
    settings: Mapping[str, Any]
    engine: str
    version: str
    n_atoms: int
    elements: tuple[str, ...]
    host: str
    time: float
    geometries: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Started:
    """An effect was handed to a worker. Without an outcome later, it was cut off."""

    effect: str
    worker: str


@dataclass(frozen=True)
class Isolated:
    """The isolated atoms to be labelled: (element, unpaired electrons, key) each.

    Attributes:
        known: (element, eV) where the engine, a pretrained model, has its own; none is labelled.
    """

    effect: str
    atoms: tuple[tuple[str, int, str], ...]
    known: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Labelled:
    """A label is in the store.

    Attributes:
        energy: of the label, in eV.
        seconds: that the engine worked; 0 where the label was there already.
        force_error: MAE in eV/Å of the forces predicted when the structure was chosen, or None.
        formula: of the structure.
    """

    effect: str
    key: str
    energy: float
    seconds: float
    force_error: float | None = None
    formula: str = ""


@dataclass(frozen=True)
class LabelRejected:
    """The reference has no usable result for this structure."""

    effect: str
    key: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class Sampled:
    """Structures for the initial dataset were written.

    Attributes:
        walkers: where the sampling MD stands, or None.
        keys: of the structures, in the order of sampling.
        seconds: of work.
        geometry: number of the geometry that an ab initio MD started from.
    """

    effect: str
    walkers: str | None
    keys: tuple[str, ...]
    seconds: float
    geometry: int = 0


@dataclass(frozen=True)
class Check:
    """The uncertainties of all moving walkers at one check.

    Attributes:
        trajectories: which, in order.
        steps: MD step of each.
        uncertainties: of each, in eV/Å.
        temperatures: kinetic, in K.
    """

    trajectories: tuple[int, ...]
    steps: tuple[int, ...]
    uncertainties: tuple[float, ...]
    temperatures: tuple[float, ...]


@dataclass(frozen=True)
class Candidate:
    """A structure that was chosen during molecular dynamics.

    Attributes:
        reason: `threshold`, `overdue` (long without a crossing), `unstable` (the walker broke,
            this is its last sane frame) or `audit`.
    """

    trajectory: int
    step: int
    key: str
    uncertainty: float
    threshold: float | None
    reason: Literal["threshold", "overdue", "unstable", "audit"]


@dataclass(frozen=True)
class Advanced:
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

    effect: str
    walkers: str
    trajectories: tuple[int, ...]
    steps: tuple[int, ...]
    checks: tuple[Check, ...]
    candidates: tuple[Candidate, ...]
    seconds: float
    path: str


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Trained:
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

    effect: str
    weights: str
    members: tuple[MemberState, ...]
    trained: tuple[int, ...]
    epochs: int
    n_entries: int
    history: tuple[tuple[int, int, float, float, float, float], ...]
    seconds: float


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Evaluated:
    """The errors of a checkpoint."""

    effect: str
    errors: tuple[Errors, ...]
    seconds: float


@dataclass(frozen=True)
class Exported:
    """Files for the user were written; paths relative to the run's folder."""

    effect: str
    files: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Imported:
    """The user's data and models were taken over as label files and a checkpoint.

    Attributes:
        weights: checkpoint of the imported models, or None: new ones are trained.
        entries: the imported labels.
        files: where they came from.
    """

    effect: str
    weights: str | None
    entries: tuple[Entry, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """A rank broke down; the run ends."""

    worker: str
    host: str
    rank: int
    error: str
    traceback: str


@dataclass(frozen=True)
class Closed:
    """The command ended in an orderly way; effects started but not finished don't count."""

    reason: str
    time: float


Event: TypeAlias = (
    Opened
    | Started
    | Isolated
    | Labelled
    | LabelRejected
    | Sampled
    | Advanced
    | Trained
    | Evaluated
    | Exported
    | Imported
    | Failed
    | Closed
)

# --- JSON ------------------------------------------------------------------------------------

_EVENTS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Event)}
_FIELDS: dict[type, dict[str, Any]] = {}


def to_json(event: Event) -> dict[str, Any]:
    """Turn an event into plain data: its fields, and its kind under `event`."""
    return {"event": type(event).__name__, **_plain(event)}


def _plain(value: Any) -> Any:
    # dataclasses.asdict deep-copies every leaf; a long history of checks makes that felt.
    if dataclasses.is_dataclass(value):
        return {name: _plain(getattr(value, name)) for name in _fields(type(value))}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def from_json(data: Mapping[str, Any]) -> Event:
    """Build the event that `to_json` took apart.

    Raises:
        ValueError: an unknown kind of event, or fields that are not its own.
    """
    fields = dict(data)
    kind = _EVENTS.get(fields.pop("event", ""))
    if kind is None:
        raise ValueError(f"unknown event {data.get('event')!r}")
    event: Event = _build(kind, fields)
    return event


def _fields(kind: type) -> dict[str, Any]:
    if kind not in _FIELDS:
        _FIELDS[kind] = typing.get_type_hints(kind)
    return _FIELDS[kind]


def _build(kind: type, data: Mapping[str, Any]) -> Any:
    hints = _fields(kind)
    if unknown := set(data) - set(hints):
        raise ValueError(f"{kind.__name__} has no field {sorted(unknown)[0]!r}")
    try:
        return kind(**{name: _value(hints[name], value) for name, value in data.items()})
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _value(hint: Any, data: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return tuple(_value(args[0], item) for item in data)
        return tuple(_value(arg, item) for arg, item in zip(args, data, strict=True))
    if origin in (Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        return None if data is None else _value(inner[0], data)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), data)
    return data
