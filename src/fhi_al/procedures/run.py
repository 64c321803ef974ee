"""A procedure as one state machine: which stage it is in, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fhi_al.procedures import books
from fhi_al.procedures.pipelines import PIPELINES
from fhi_al.procedures.procedure import Procedure, Stage
from fhi_al.procedures.reading import read_rules
from fhi_al.procedures.state import DONE, Origin, State
from fhi_al.procedures.stop import Tally
from fhi_al.record.effects import Calculate, Effect, Evaluate, Export
from fhi_al.record.events import Event, Labelled, LabelRejected, Opened


def fold(events: Iterable[Event]) -> State | None:
    """The state after these events; None if there are none."""
    state: State | None = None
    for event in events:
        state = step(state, event)
    return state


def step(state: State | None, event: Event) -> State:
    """Take one event into the state, in place.

    Raises:
        ValueError: the first event is not `Opened`, or the procedure is unknown.
    """
    if isinstance(event, Opened):
        state = _opened(state, event)
    elif state is None:
        raise ValueError(f"a journal begins with Opened, not {type(event).__name__}")
    elif (taken := books.entered(state, event)) is not None:
        _take(state, taken)
    if state.stage == DONE:
        _reopen(state)
    while _next_stage(state):
        pass
    return state


def procedure_of(state: State) -> Procedure:
    """The procedure of the command that was started last."""
    return PIPELINES[state.goal]


def stage_of(state: State) -> Stage[Any] | None:
    """The stage that the run is in; None at the end of the procedure."""
    own = procedure_of(state).stage(state.stage)
    return own or next(filter(None, (p.stage(state.stage) for p in PIPELINES.values())), None)


def stage_words(state: State) -> str:
    """The stage that the run is in, in a sentence."""
    stage = stage_of(state)
    return stage.words if stage is not None else DONE


def progress_of(state: State) -> dict[str, Tally]:
    """The numbers that end the present stage; see `Stage.progress`."""
    stage = stage_of(state)
    return stage.progress(state, stage.own(state)) if stage is not None else {}


def moving_stage(state: State) -> Stage[Any] | None:
    """The newest stage that has trajectories, or None."""
    return next((stage for stage in reversed([*begun(state)]) if stage.moves), None)


def name_of(state: State, key: str) -> str | None:
    """What a structure is, where a stage has a name for it."""
    names = (stage.name_of(stage.own(state), key) for stage in begun(state))
    return next((name for name in names if name is not None), None)


def remaining(state: State) -> str:
    """What a new label is to the present stage, in words; see `Stage.remaining`."""
    stage = stage_of(state)
    if stage is None:
        return f"{len(state.books.entries)} in all"
    return stage.remaining(state, stage.own(state))


def needed_resources(state: State) -> frozenset[str]:
    """What the present stage's work needs besides the committee; see `Stage.resources`."""
    stage = stage_of(state)
    return stage.resources(state) if stage is not None else frozenset()


def unfinished_before(state: State, goal: str) -> Procedure | None:
    """The procedure that another command has begun, and must bring to its end before this goal."""
    stage, first = stage_of(state), PIPELINES.get(PIPELINES[goal].after)
    if first is None or stage is None or state.goal == goal:
        return None
    return first if first.stage(stage.name) is not None and not state.books.imported else None


def begun(state: State) -> Iterator[Stage[Any]]:
    """The stages that have a part of the state, in order."""
    return (stage for stage in procedure_of(state).stages if stage.name in state.stages)


def finished(state: State) -> bool:
    """Whether the command's goal is reached."""
    return state.stage == DONE


def wanted(state: State) -> list[Effect]:
    """The effects that should be running now, the most urgent first."""
    stage = stage_of(state)
    if stage is None or state.books.failure:
        return []
    own = stage.own(state)
    effects: list[Effect] = [*_retries(state, stage), *stage.wanted(state, own)]
    if state.books.deaths and (
        suspects := [e for e in effects if isinstance(e, Calculate) and e.key in state.books.deaths]
    ):
        # Alone: whatever dies with it now, dies of it.
        return [suspects[0]]
    if effects or not stage.settled(state, own) or not stage.delivers(state):
        return effects
    return _delivery(state, stage)


def delivered_members(state: State) -> tuple[int, ...]:
    """The members whose models the user gets: those of the newest stage that says so."""
    members = tuple(range(state.rules.ensemble_size))
    for stage in begun(state):
        members = stage.delivered(state, stage.own(state))
    return members


def _opened(state: State | None, event: Opened) -> State:
    rules = read_rules(event.settings)
    if event.goal not in PIPELINES:
        raise ValueError(f"unknown procedure {event.goal!r}")
    if state is None:
        state = State(rules=rules, goal=event.goal)
        state.books.train_sizes = [0] * rules.ensemble_size
    state.rules, state.goal, state.elements = rules, event.goal, event.elements
    # What was in work when the last command ended is wanted again, or not, by the state alone.
    state.books.in_flight.clear()
    state.books.failure = None
    procedure, stage = procedure_of(state), stage_of(state)
    following = procedure.following(state)
    # Another command may have begun a stage that this one doesn't know: what comes before the
    # stages of this one is brought to its end, what comes after them waits for that command.
    if stage is None or (following is None and procedure.stage(stage.name) is None):
        _enter(state, following)
    else:
        stage.resume(state, stage.own(state))
    return state


def _take(state: State, event: Event) -> None:
    """Take an outcome into the books and into the stage that it belongs to."""
    stage = stage_of(state)
    key = event.key if isinstance(event, Labelled | LabelRejected) else None
    # Before the stage forgets who asked.
    origin = _origin(state, event.key) if isinstance(event, LabelRejected) else Origin()
    books.count(state, event, origin)
    if stage is not None:
        stage.step(state, stage.own(state), event)
    if key in state.books.retries:
        del state.books.retries[key]
        if isinstance(event, Labelled) and stage is not None:
            stage.adopt(state, stage.own(state), event.key)


def _origin(state: State, key: str) -> Origin:
    found = (stage.origin(stage.own(state), key) for stage in begun(state))
    return next((origin for origin in found if origin is not None), Origin())


def _retries(state: State, stage: Stage[Any]) -> list[Effect]:
    """Rejected structures that are to be tried again, while there are datasets to be made."""
    if not stage.open_to_retries(stage.own(state)):
        return []
    return [
        Calculate(id=f"label-{key}", key=key, purpose="candidate") for key in state.books.retries
    ]


def _next_stage(state: State) -> bool:
    """Go to the next stage if this one is over; whether it did."""
    stage = stage_of(state)
    if stage is None or not stage.settled(state, stage.own(state)):
        return False
    if stage.delivers(state) and stage.name not in state.books.exported:
        return False
    state.passed.append(stage.name)
    _enter(state, procedure_of(state).following(state))
    return True


def _reopen(state: State) -> None:
    """Go back to a stage that has work again, after the procedure was at its end."""
    for stage in begun(state):
        if stage.reopens(state, stage.own(state)):
            state.passed.remove(stage.name)
            state.stage = stage.name
            return


def _enter(state: State, stage: Stage[Any] | None) -> None:
    state.stage = DONE if stage is None else stage.name
    if stage is not None and stage.name not in state.stages:
        state.stages[stage.name] = stage.begin(state)
    elif stage is not None:
        stage.resume(state, stage.own(state))


def _delivery(state: State, stage: Stage[Any]) -> list[Effect]:
    """When a stage's work is done: measure the errors, then write the files."""
    own = state.books
    assert own.weights is not None
    if own.evaluated != own.weights:
        everyone = tuple(range(state.rules.ensemble_size))
        return [Evaluate(f"evaluate-{stage.name}", own.weights, everyone, own.entries)]
    members = stage.delivered(state, stage.own(state))
    return [Export(f"export-{stage.name}", stage.name, own.weights, members, own.entries)]
