"""Training until more epochs don't help, in parts that a restart can go on from."""

from __future__ import annotations

from fhi_al.procedures.state import ConvergenceState, State
from fhi_al.procedures.stop import first_reason
from fhi_al.record.effects import Effect, Train
from fhi_al.record.events import Event, MemberState, Trained

_SECONDS = 20.0
_EPOCHS = 10


def begin(state: State) -> None:
    """Choose the members and start."""
    rules = state.rules
    members = tuple(range(rules.ensemble_size))
    if state.stage == "convergence" and rules.converge_best:
        members = (best_member(state.members),)
    state.convergence = ConvergenceState(members)


def best_member(members: tuple[MemberState, ...]) -> int:
    """The member with the lowest validation force MAE; the first one if none was validated."""

    def error(index: int) -> float:
        mae = members[index].force_mae
        return float("inf") if mae is None else mae

    return min(range(len(members)), key=error)


def step(state: State, event: Event) -> None:
    """Take an event into the state."""
    convergence = state.convergence
    if not isinstance(event, Trained) or convergence is None:
        return
    convergence.epochs += event.epochs
    convergence.seconds_per_epoch = event.seconds / max(event.epochs, 1)
    convergence.reason = first_reason(state)


def wanted(state: State) -> list[Effect]:
    """What should be running now."""
    convergence, rules = state.convergence, state.rules
    if convergence is None or convergence.reason:
        return []
    epochs = _EPOCHS
    if rules.asynchronous and convergence.seconds_per_epoch:
        # A checkpoint about every 20 s: little to lose in a kill, little time spent on writing.
        epochs = max(1, round(_SECONDS / convergence.seconds_per_epoch))
    return [
        Train(
            id=f"train-{state.n_trained}",
            stage=state.stage,
            weights=state.weights,
            members=convergence.members,
            epochs=min(epochs, rules.max_final_epochs - convergence.epochs),
            entries=state.entries,
            union=rules.converge_on == "union" and state.stage == "convergence",
            fresh=convergence.epochs == 0,
            atomic_energies=state.given_energies,
        )
    ]
