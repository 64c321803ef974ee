"""When a stage has done enough.

A stop criterion is one function, which gives a reason in words or None, and its entry in the
registry of a stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fhi_al.record.registry import Choice, Registry

if TYPE_CHECKING:
    from fhi_al.procedures.rules import Rules
    from fhi_al.procedures.state import State

Criterion = Callable[["State", "Rules"], str | None]


@dataclass(frozen=True)
class Count:
    """A number on its way to the limit at which a criterion ends the stage.

    Attributes:
        number: as it is now.
        limit: that ends the stage.
        seconds_each: that it takes to grow by one, where the state knows; None: its pace tells.
        last: whether the stage is over at the limit; if not, work of another kind is left.
    """

    number: int
    limit: int
    seconds_each: float | None = None
    last: bool = True


@dataclass(frozen=True, kw_only=True)
class StopCriterion(Choice[Criterion]):
    """An entry of a registry of stop criteria.

    Attributes:
        by_default: whether it counts where the user chooses none; in runs that began before it
            was written, too.
        sure: whether it comes sooner or later, however the run goes. One such must be chosen.
        counts: what `count` counts, in words for the live view.
        count: where the number stands; None where there is none.
    """

    by_default: bool = False
    sure: bool = False
    counts: str = ""
    count: Callable[[State, Rules], Count | None] = lambda state, rules: None


# --- the initial dataset -----------------------------------------------------------------------


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


def _initial_structures(state: State, rules: Rules) -> Count | None:
    limit = rules.max_initial_set_size
    return None if limit is None else Count(len(state.entries), limit, last=False)


INITIAL_STOP_CRITERIA = Registry[StopCriterion](
    "a stop criterion of the initial dataset",
    {
        "accuracy": StopCriterion(
            initial_accuracy,
            "the force MAE is down to initial_accuracy_factor times desired_acc",
            needs=frozenset({"members"}),
            by_default=True,
        ),
        "epochs": StopCriterion(
            initial_epochs,
            "max_initial_epochs is reached",
            by_default=True,
            sure=True,
            counts="epochs",
            count=lambda state, rules: Count(state.initial.epochs, rules.max_initial_epochs),
        ),
        "set_size": StopCriterion(
            initial_set_size,
            "max_initial_set_size is reached, and trained on",
            settings=("max_initial_set_size",),
            by_default=True,
            counts="initial structures",
            count=_initial_structures,
        ),
    },
)
"""What may end the initial dataset; looked at after each training."""

# --- active learning ---------------------------------------------------------------------------


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


def _md_steps(state: State, rules: Rules) -> Count | None:
    if state.active is None:
        return None
    walkers = state.active.walkers
    return Count(sum(w.step for w in walkers), len(walkers) * rules.max_MD_steps)


STOP_CRITERIA = Registry[StopCriterion](
    "a stop criterion of active learning",
    {
        "accuracy": StopCriterion(
            accuracy,
            "the force MAE is down to desired_acc",
            needs=frozenset({"members"}),
            by_default=True,
        ),
        "set_size": StopCriterion(
            set_size,
            "the training set is as large as max_set_size",
            settings=("max_set_size",),
            by_default=True,
            counts="training set",
            count=lambda state, rules: Count(state.train_size, rules.max_set_size),
        ),
        "trajectories": StopCriterion(
            trajectories_ended,
            "all trajectories are at max_MD_steps",
            by_default=True,
            sure=True,
            counts="MD steps",
            count=_md_steps,
        ),
    },
)
"""What may end active learning; looked at after each event."""

# --- convergence -------------------------------------------------------------------------------


def no_improvement(state: State, rules: Rules) -> str | None:
    """Epochs don't help any more, for none of the members that are converged."""
    if state.convergence is None or not state.members:
        return None
    stale = [state.members[member].stale_epochs for member in state.convergence.members]
    if min(stale) < rules.final_patience:
        return None
    return f"no improvement in {rules.final_patience} epochs (patience)"


def final_epochs(state: State, rules: Rules) -> str | None:
    """The convergence has taken as many epochs as it may."""
    if state.convergence is None or state.convergence.epochs < rules.max_final_epochs:
        return None
    return f"max_final_epochs ({rules.max_final_epochs}) is reached"


def _final_epochs(state: State, rules: Rules) -> Count | None:
    own = state.convergence
    if own is None:
        return None
    # Epochs of one kind of training: the last ones tell best.
    return Count(own.epochs, rules.max_final_epochs, own.seconds_per_epoch)


CONVERGE_STOP_CRITERIA = Registry[StopCriterion](
    "a stop criterion of the convergence",
    {
        "patience": StopCriterion(
            no_improvement,
            "the validation loss has not improved for `patience` epochs",
            by_default=True,
        ),
        "epochs": StopCriterion(
            final_epochs,
            "max_final_epochs is reached",
            by_default=True,
            sure=True,
            counts="epochs",
            count=_final_epochs,
        ),
    },
)
"""What may end a convergence, of the initial or of the final models; looked at after each
training."""

# --- which of them count -----------------------------------------------------------------------


def defaults(criteria: Registry[StopCriterion]) -> tuple[str, ...]:
    """Those that count where the user chooses none."""
    return tuple(name for name, criterion in criteria.items() if criterion.by_default)


def chosen(state: State) -> Iterator[StopCriterion]:
    """Those that may end the present stage."""
    rules = state.rules
    if state.stage == "initial_dataset":
        return (INITIAL_STOP_CRITERIA[name] for name in rules.initial_stop_when)
    if state.stage == "active_learning":
        return (STOP_CRITERIA[name] for name in rules.stop_when)
    if state.stage in ("converge_initial", "convergence"):
        return (CONVERGE_STOP_CRITERIA[name] for name in rules.converge_stop_when)
    return iter(())


def first_reason(state: State) -> str | None:
    """The reason of the first criterion that ends the present stage; None: it goes on."""
    return next(filter(None, (c.load()(state, state.rules) for c in chosen(state))), None)


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
