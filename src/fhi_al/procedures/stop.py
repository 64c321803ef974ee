"""When a stage has done enough. Each criterion gives a reason in words, or None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from fhi_al.procedures.rules import Rules
from fhi_al.procedures.state import State

Criterion = Callable[[State, Rules], str | None]


def accuracy(state: State, rules: Rules) -> str | None:
    """The committee is as good as asked for, on enough structures to tell."""
    mae = state.force_mae()
    if mae is None or state.n_valid < rules.min_valid_size or mae > rules.desired_acc:
        return None
    return f"the force MAE of {1000 * mae:.1f} meV/Å reached desired_acc"


def set_size(state: State, rules: Rules) -> str | None:
    """The training set is as large as it may get."""
    if state.train_size < rules.max_set_size:
        return None
    return f"the training set reached max_set_size ({rules.max_set_size})"


def trajectories_ended(state: State, rules: Rules) -> str | None:
    """Every trajectory is at its last step."""
    if state.active is None or any(w.status != "finished" for w in state.active.walkers):
        return None
    return f"all trajectories reached max_MD_steps ({rules.max_MD_steps})"


def initial_accuracy(state: State, rules: Rules) -> str | None:
    """The committee is good enough to start active learning with."""
    mae = state.force_mae()
    if mae is None or state.n_valid < rules.min_valid_size or mae > rules.initial_target:
        return None
    return f"the force MAE of {1000 * mae:.1f} meV/Å reached initial_accuracy_factor * desired_acc"


def initial_epochs(state: State, rules: Rules) -> str | None:
    """The initial training has taken as many epochs as it may."""
    if state.initial.epochs < rules.max_initial_epochs:
        return None
    return f"max_initial_epochs ({rules.max_initial_epochs}) is reached"


def initial_set_size(state: State, rules: Rules) -> str | None:
    """The initial dataset is as large as it may get, and trained on."""
    limit, initial = rules.max_initial_set_size, state.initial
    if limit is None or initial.n_sampled < limit or initial.trained < initial.sampled:
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


def first_reason(criteria: dict[str, Criterion], state: State) -> str | None:
    """The reason of the first criterion that has one."""
    for criterion in criteria.values():
        if reason := criterion(state, state.rules):
            return reason
    return None


def too_many_failures(state: State) -> str | None:
    """The reference fails too often for the run to make sense."""
    # A structure may fail more than once, as the first one of ab initio MD does.
    tried = len(state.outcomes) - len(state.rejected) + state.n_rejected
    if tried < 10 or state.n_rejected <= state.rules.max_failed_fraction * tried:
        return None
    return (
        f"{state.n_rejected} of {tried} reference calculations failed, more than "
        f"max_failed_fraction ({state.rules.max_failed_fraction:g}) allows: {_kinds(state)}. The "
        "log and rejected.xyz beside the datasets give each reason; check control.in and the "
        "REFERENCE settings (scf_rescue names others to be tried), or whether the structures make "
        "sense"
    )


def _kinds(state: State) -> str:
    kinds = Counter(about.kind for about in state.rejected.values())
    return ", ".join(f"{n} by {kind}" for kind, n in kinds.most_common())
