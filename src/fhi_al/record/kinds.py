"""The kinds of effect: who does each, what it is called, what it leads to, and how long it takes.

Whatever treats effects or outcomes by their kind looks here; a test walks the union of effects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fhi_al.record import events
from fhi_al.record.effects import (
    Advance,
    Calculate,
    Effect,
    Evaluate,
    Export,
    Import,
    Isolate,
    ReferenceStep,
    Sample,
    Select,
    Train,
)
from fhi_al.record.outcome import Outcome, Role


@dataclass(frozen=True)
class Duration:
    """Where it is learned from how long an effect takes.

    Attributes:
        of_one: from an outcome, the seconds of work; of one unit of it, where there are several.
        how_many: from an effect, how many units of work it asks for.
    """

    of_one: Callable[[Any], float]
    how_many: Callable[[Any], int]


_SECONDS = Duration(lambda outcome: outcome.seconds, lambda effect: 1)
_PER_EPOCH = Duration(
    lambda outcome: outcome.seconds / max(outcome.epochs, 1), lambda effect: effect.epochs
)


@dataclass(frozen=True)
class Kind:
    """What there is to know of a kind of effect besides its fields.

    Attributes:
        role: of the workers that do it.
        word: what the work is called, wherever people read of it.
        outcomes: the types of event that it leads to, one of them each time.
        handler: the function that carries it out, as `module:name`, imported on first use. It
            takes the worker of that role and the effect, and does the work in slices.
        duration: how long the next one takes, judged by those before; None: no time that would
            have to be planned with.
    """

    role: Role
    word: str
    outcomes: tuple[type[Outcome], ...]
    handler: str
    duration: Duration | None


_ML = "fhi_al.workers.ml_worker:MlWorker"

KINDS: dict[type[Effect], Kind] = {
    Isolate: Kind("ML", "isolated atoms", (events.Isolated,), f"{_ML}.isolate", None),
    Calculate: Kind(
        "reference",
        "labels",
        (events.Labelled, events.LabelRejected),
        "fhi_al.handlers.calculate:ReferenceWorker.calculate",
        _SECONDS,
    ),
    Sample: Kind("ML", "sampling", (events.Sampled,), f"{_ML}.sample", _SECONDS),
    ReferenceStep: Kind("ML", "sampling", (events.Sampled,), f"{_ML}.reference_step", None),
    Advance: Kind("ML", "molecular dynamics", (events.Advanced,), f"{_ML}.advance", _SECONDS),
    Train: Kind("ML", "training", (events.Trained,), f"{_ML}.train", _PER_EPOCH),
    Evaluate: Kind("ML", "evaluation", (events.Evaluated,), f"{_ML}.evaluate", _SECONDS),
    Export: Kind("ML", "export", (events.Exported,), f"{_ML}.export", _SECONDS),
    Import: Kind("ML", "import", (events.Imported,), f"{_ML}.import_data", None),
    Select: Kind("ML", "selection", (events.Selected,), f"{_ML}.select", _SECONDS),
}
"""Each member of the union `Effect`, in the order in which reports show them. A procedure with an
effect of its own adds it here."""


def kind_named(effect: str) -> Kind:
    """The kind of an effect, by the name of its class, as `Started` has it."""
    return next(kind for known, kind in KINDS.items() if known.__name__ == effect)


def leading_to(outcome: type[Outcome]) -> Kind:
    """The kind that an outcome tells of; the first of several, which share their word.

    Raises:
        LookupError: none does.
    """
    found = next((kind for kind in KINDS.values() if outcome in kind.outcomes), None)
    if found is None:
        raise LookupError(f"no kind of effect leads to {outcome.__name__}")
    return found


def role_of(effect: Effect) -> Role:
    """The role of the workers that do an effect."""
    return KINDS[type(effect)].role
