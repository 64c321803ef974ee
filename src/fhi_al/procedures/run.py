"""The whole run as one state machine: which stage it is in, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from fhi_al.procedures import (
    active_learning,
    atomic_energies,
    convergence,
    initial_dataset,
    recalculation,
)
from fhi_al.procedures.rejections import died, judged, rejection, retry
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.state import State
from fhi_al.procedures.stop import too_many_failures
from fhi_al.record.effects import Calculate, Effect, Evaluate, Export, Import
from fhi_al.record.events import (
    Advanced,
    Closed,
    Died,
    Evaluated,
    Event,
    Exported,
    Failed,
    Imported,
    Labelled,
    LabelRejected,
    Opened,
    Retried,
    Stage,
    Started,
    Trained,
)

_PROCEDURES: dict[Stage, ModuleType] = {
    "recalculation": recalculation,
    "atomic_energies": atomic_energies,
    "initial_dataset": initial_dataset,
    "converge_initial": convergence,
    "active_learning": active_learning,
    "convergence": convergence,
}


def fold(events: Iterable[Event]) -> State | None:
    """The state after these events; None if there are none."""
    state: State | None = None
    for event in events:
        state = step(state, event)
    return state


def step(state: State | None, event: Event) -> State:
    """Take one event into the state, in place.

    Raises:
        ValueError: the first event is not `Opened`.
    """
    if isinstance(event, Opened):
        state = _opened(state, event)
    elif state is None:
        raise ValueError(f"a journal begins with Opened, not {type(event).__name__}")
    elif isinstance(event, Started):
        state.in_flight[event.effect] = event
    elif isinstance(event, Died):
        if (rejected := died(state, event)) is not None:
            _take(state, rejected)
    elif isinstance(event, Retried):
        retry(state, event)
    elif not isinstance(event, (Closed, Failed)):
        state.in_flight.pop(event.effect, None)
        _take(state, judged(state, event))
    while _next_stage(state):
        pass
    return state


def _take(state: State, event: Event) -> None:
    """Take an outcome into the books and into the stage that it belongs to."""
    _count(state, event)
    if state.stage in _PROCEDURES:
        _PROCEDURES[state.stage].step(state, event)
    if isinstance(event, Labelled | LabelRejected) and event.key in state.retries:
        del state.retries[event.key]
        if isinstance(event, Labelled):
            _adopt(state, event.key)


def _adopt(state: State, key: str) -> None:
    """Take the label of a retried structure into the datasets; no trajectory waits for it."""
    if state.stage == "initial_dataset":
        initial_dataset.take(state, key)
    elif state.active is not None:
        active_learning.take(state, state.active, key)


def _retries(state: State) -> list[Effect]:
    """Rejected structures that are to be tried again, while there are datasets to be made."""
    ended = state.initial.reason if state.active is None else state.active.reason
    if ended or state.stage not in ("initial_dataset", "active_learning"):
        return []
    return [Calculate(id=f"label-{key}", key=key, purpose="candidate") for key in state.retries]


def _opened(state: State | None, event: Opened) -> State:
    rules = Rules.from_json(event.settings)
    if state is None:
        state = State(rules=rules, goal=event.goal, stage="initial_dataset")
        state.train_sizes = [0] * rules.ensemble_size
        if event.goal == "recalculate":
            state.stage = "recalculation"
        elif event.goal == "atomic_energies" or rules.auto_atomic_energies:
            state.stage = "atomic_energies"
        elif event.goal == "active_learning":
            state.stage = "import"
    state.rules, state.goal, state.elements = rules, event.goal, event.elements
    # What was in work when the last command ended is wanted again, or not, by the state alone.
    state.in_flight.clear()
    state.failure = None
    if state.active is not None:
        active_learning.take_over(state)
    return state


def _count(state: State, event: Event) -> None:
    """Keep the books that all stages share."""
    if isinstance(event, Labelled | LabelRejected):
        state.deaths.pop(event.key, None)
    if isinstance(event, Labelled):
        state.outcomes[event.key] = True
    elif isinstance(event, LabelRejected):
        state.outcomes[event.key] = False
        state.n_rejected += 1
        state.rejected[event.key] = rejection(state, event)
        state.failure = too_many_failures(state)
    elif isinstance(event, Trained):
        state.n_trained += 1
        state.weights, state.members = event.weights, event.members
    elif isinstance(event, Advanced):
        state.n_advanced += 1
    elif isinstance(event, Evaluated):
        state.errors, state.evaluated = event.errors, state.weights
    elif isinstance(event, Exported):
        state.exported[state.stage] = event.files
    elif isinstance(event, Imported):
        state.imported = True
        state.weights = event.weights
        for entry in event.entries:
            state.outcomes[entry.key] = True
            state.add(entry)


def _next_stage(state: State) -> bool:
    """Go to the next stage if this one is over; whether it did."""
    rules, stage = state.rules, state.stage
    following: Stage | None = None
    if stage == "atomic_energies" and state.atomic_energies is not None:
        if state.goal == "atomic_energies":
            following = "done"
        else:
            following = "import" if state.goal == "active_learning" else "initial_dataset"
    elif stage == "import" and state.imported:
        # Data without models: train them on it as on an initial dataset.
        trained = state.weights and not rules.converge_imported
        following = "active_learning" if trained else "converge_initial"
    elif stage == "initial_dataset" and initial_dataset.settled(state):
        if rules.converge_initial:
            following = "converge_initial"
        elif stage in state.exported:
            following = "active_learning"
    elif stage == "converge_initial" and stage in state.exported:
        following = "active_learning"
    elif stage == "active_learning" and active_learning.settled(state):
        if rules.converge_al:
            following = "convergence"
        elif stage in state.exported:
            following = "done"
    elif stage == "convergence" and stage in state.exported:
        following = "done"
    if following is None:
        return False
    state.stage = following
    if following == "active_learning":
        active_learning.begin(state)
    elif following in ("converge_initial", "convergence"):
        convergence.begin(state)
    return True


def wanted(state: State) -> list[Effect]:
    """The effects that should be running now, the most urgent first."""
    if finished(state) or state.failure:
        return []
    if state.stage == "import":
        return [Import(id="import", atomic_energies=state.given_energies)]
    effects: list[Effect] = [*_retries(state), *_PROCEDURES[state.stage].wanted(state)]
    if state.deaths and (
        suspects := [e for e in effects if isinstance(e, Calculate) and e.key in state.deaths]
    ):
        # Alone: whatever dies with it now, dies of it.
        return [suspects[0]]
    return effects or (_delivery(state) if _worked_out(state) else [])


def _worked_out(state: State) -> bool:
    """Whether the stage has nothing left to do but to deliver its result."""
    if state.stage == "initial_dataset":
        return initial_dataset.settled(state)
    if state.stage == "active_learning":
        return active_learning.settled(state)
    return state.convergence is not None and state.convergence.reason is not None


def _delivery(state: State) -> list[Effect]:
    """When a stage's work is done: measure the errors, then write the files."""
    assert state.weights is not None
    if state.evaluated != state.weights:
        everyone = tuple(range(state.rules.ensemble_size))
        return [Evaluate(f"evaluate-{state.stage}", state.weights, everyone, state.entries)]
    members = delivered_members(state)
    return [Export(f"export-{state.stage}", state.stage, state.weights, members, state.entries)]


def delivered_members(state: State) -> tuple[int, ...]:
    """The members whose models the user gets."""
    if state.stage in ("convergence", "done") and state.convergence is not None:
        return state.convergence.members
    return tuple(range(state.rules.ensemble_size))


def finished(state: State) -> bool:
    """Whether the command's goal is reached."""
    if state.goal == "recalculate":
        return recalculation.settled(state)
    if state.goal == "atomic_energies":
        return state.atomic_energies is not None
    if state.goal == "initial_dataset":
        return state.stage in ("active_learning", "convergence", "done")
    return state.stage == "done"
