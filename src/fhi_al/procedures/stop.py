"""When a stage has done enough.

A stop criterion is one function, which gives a reason in words or None, and its entry in the
registry of a stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fhi_al.record.registry import Choice, Registry

if TYPE_CHECKING:
    from fhi_al.procedures.state import State

Criterion = Callable[["State", Any], str | None]
"""Asked with the state, and with what the stage owns of it."""


class Tally(NamedTuple):
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
    count: Callable[[State, Any], Tally | None] = lambda state, own: None


def _reached(state: State, target: float, name: str) -> str | None:
    """The committee is as good as a target in eV/Å, on enough structures to tell."""
    mae = state.books.force_mae
    if mae is None or state.books.n_valid < state.rules.min_valid_size or mae > target:
        return None
    return f"the force MAE of {1000 * mae:.1f} meV/Å reached {name}"


# --- the initial dataset -----------------------------------------------------------------------


def initial_accuracy(state: State, own: Any) -> str | None:
    """The committee is good enough to start active learning with."""
    return _reached(state, state.rules.initial_target, "initial_accuracy_factor * desired_acc")


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


def _initial_structures(state: State, own: Any) -> Tally | None:
    limit = state.rules.max_initial_set_size
    return None if limit is None else Tally(len(state.books.entries), limit, last=False)


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
            count=lambda state, own: Tally(own.epochs, state.rules.max_initial_epochs),
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


def accuracy(state: State, own: Any) -> str | None:
    """The committee is as good as asked for, on enough structures to tell."""
    return _reached(state, state.rules.desired_acc, "desired_acc")


def set_size(state: State, own: Any) -> str | None:
    """The training set is as large as it may get."""
    limit = state.rules.max_set_size
    if state.books.train_size < limit:
        return None
    return f"the training set reached max_set_size ({limit})"


def trajectories_ended(state: State, own: Any) -> str | None:
    """Every trajectory is at its last step, and nothing that they found is left."""
    if not own.idle:
        return None
    return f"all trajectories reached max_MD_steps ({state.rules.max_MD_steps})"


def _md_steps(state: State, own: Any) -> Tally:
    steps = sum(walker.step for walker in own.walkers)
    return Tally(steps, len(own.walkers) * state.rules.max_MD_steps)


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
            count=lambda state, own: Tally(state.books.train_size, state.rules.max_set_size),
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


def no_improvement(state: State, own: Any) -> str | None:
    """Epochs don't help any more, for none of the members that are converged."""
    patience, members = state.rules.final_patience, state.books.members
    if not members or min(members[member].stale_epochs for member in own.members) < patience:
        return None
    return f"no improvement in {patience} epochs (patience)"


def final_epochs(state: State, own: Any) -> str | None:
    """The convergence has taken as many epochs as it may."""
    limit = state.rules.max_final_epochs
    return f"max_final_epochs ({limit}) is reached" if own.epochs >= limit else None


def _final_epochs(state: State, own: Any) -> Tally:
    # Epochs of one kind of training: the last ones tell best.
    return Tally(own.epochs, state.rules.max_final_epochs, own.seconds_per_epoch)


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


def first_reason(criteria: Iterable[StopCriterion], state: State, own: Any) -> str | None:
    """The reason of the first criterion that ends a stage; None: it goes on.

    Args:
        criteria: that count.
        state: of the run.
        own: what the stage owns of it.
    """
    for criterion in criteria:
        if reason := criterion.load()(state, own):
            return reason
    return None


def counts(criteria: Iterable[StopCriterion], state: State, own: Any) -> dict[str, Tally]:
    """The numbers of which one ends a stage when it reaches its limit, by what they count.

    The arguments are those of `first_reason`.
    """
    found = {}
    for criterion in criteria:
        if criterion.counts and (count := criterion.count(state, own)) is not None:
            found[criterion.counts] = count
    return found


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
