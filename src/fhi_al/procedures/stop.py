"""When a stage has done enough. Each criterion gives a reason in words, or None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fhi_al.procedures.state import State

Criterion = Callable[[State, Any], str | None]
"""Asked with the state and what the stage owns."""


def accuracy(state: State, own: Any) -> str | None:
    """The committee is as good as asked for, on enough structures to tell."""
    rules, books = state.rules, state.books
    mae = books.force_mae
    if mae is None or books.n_valid < rules.min_valid_size or mae > rules.desired_acc:
        return None
    return f"the force MAE of {1000 * mae:.1f} meV/Å reached desired_acc"


def set_size(state: State, own: Any) -> str | None:
    """The training set is as large as it may get."""
    limit = state.rules.max_set_size
    if state.books.train_size < limit:
        return None
    return f"the training set reached max_set_size ({limit})"


def trajectories_ended(state: State, own: Any) -> str | None:
    """Every trajectory is at its last step."""
    if any(walker.status != "finished" for walker in own.walkers):
        return None
    return f"all trajectories reached max_MD_steps ({state.rules.max_MD_steps})"


def initial_accuracy(state: State, own: Any) -> str | None:
    """The committee is good enough to start active learning with."""
    rules, books = state.rules, state.books
    mae = books.force_mae
    if mae is None or books.n_valid < rules.min_valid_size or mae > rules.initial_target:
        return None
    return f"the force MAE of {1000 * mae:.1f} meV/Å reached initial_accuracy_factor * desired_acc"


def initial_epochs(state: State, own: Any) -> str | None:
    """The initial training has taken as many epochs as it may."""
    limit = state.rules.max_initial_epochs
    return f"max_initial_epochs ({limit}) is reached" if own.epochs >= limit else None


def initial_set_size(state: State, own: Any) -> str | None:
    """The initial dataset is as large as it may get, and trained on."""
    limit = state.rules.max_initial_set_size
    if limit is None or own.n_sampled < limit or own.trained < own.sampled:
        return None
    return f"the initial dataset reached max_initial_set_size ({limit})"


INITIAL_STOP_CRITERIA: dict[str, Criterion] = {
    "accuracy": initial_accuracy,
    "epochs": initial_epochs,
    "set_size": initial_set_size,
}
"""Any of these ends the initial dataset; looked at after each training."""

STOP_CRITERIA: dict[str, Criterion] = {
    "accuracy": accuracy,
    "set_size": set_size,
    "trajectories": trajectories_ended,
}
"""Any of these ends active learning."""


def first_reason(criteria: dict[str, Criterion], state: State, own: Any) -> str | None:
    """The reason of the first criterion that has one."""
    for criterion in criteria.values():
        if reason := criterion(state, own):
            return reason
    return None


def too_many_failures(state: State) -> str | None:
    """The reference fails too often for the run to make sense."""
    # A structure may fail more than once, as the first one of ab initio MD does.
    tried = len(state.books.outcomes) - len(state.books.rejected) + state.books.n_rejected
    if tried < 10 or state.books.n_rejected <= state.rules.max_failed_fraction * tried:
        return None
    return (
        f"{state.books.n_rejected} of {tried} reference calculations failed, more than "
        f"max_failed_fraction ({state.rules.max_failed_fraction:g}) allows: {_kinds(state)}. The "
        "log and rejected.xyz beside the datasets give each reason; check control.in and the "
        "REFERENCE settings (scf_rescue names others to be tried), or whether the structures make "
        "sense"
    )


def _kinds(state: State) -> str:
    kinds = Counter(about.kind for about in state.books.rejected.values())
    return ", ".join(f"{n} by {kind}" for kind, n in kinds.most_common())
