"""Training until more epochs don't help, in parts that a restart can go on from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fhi_al.procedures.procedure import Stage
from fhi_al.procedures.state import State
from fhi_al.procedures.stop import CONVERGE_STOP_CRITERIA, StopCriterion
from fhi_al.record.effects import Effect, Train
from fhi_al.record.events import Event, MemberState, Trained

_SECONDS = 20.0
_EPOCHS = 10


@dataclass
class ConvergenceState:
    """Training to convergence.

    Attributes:
        members: those that are converged.
        epochs: done in this stage.
        seconds_per_epoch: of the last training, or None.
        reason: why the stage ended.
    """

    members: tuple[int, ...]
    epochs: int = 0
    seconds_per_epoch: float | None = None
    reason: str | None = None


class ConvergenceStage(Stage[ConvergenceState]):
    """Trains the committee, or its best member, until more epochs don't help."""

    at_most = True

    def needed(self, state: State) -> bool:
        """Where the user wants the final models converged."""
        return state.rules.converge_al

    def begin(self, state: State) -> ConvergenceState:
        """Choose the members."""
        if state.rules.converge_best:
            return ConvergenceState((best_member(state.books.members),))
        return ConvergenceState(self._everyone(state))

    def step(self, state: State, own: ConvergenceState, event: Event) -> None:
        """Take an event into the state."""
        if not isinstance(event, Trained):
            return
        own.epochs += event.epochs
        own.seconds_per_epoch = event.seconds / max(event.epochs, 1)
        own.reason = self.first_reason(state, own)

    def wanted(self, state: State, own: ConvergenceState) -> list[Effect]:
        """What should be running now."""
        rules, books = state.rules, state.books
        if own.reason:
            return []
        epochs = _EPOCHS
        if rules.asynchronous and own.seconds_per_epoch:
            # A checkpoint about every 20 s: little to lose in a kill, little time spent on writing.
            epochs = max(1, round(_SECONDS / own.seconds_per_epoch))
        return [
            Train(
                id=f"train-{books.n_trained}",
                stage=self.name,
                weights=books.weights,
                members=own.members,
                epochs=min(epochs, rules.max_final_epochs - own.epochs),
                entries=books.entries,
                union=self._union(state),
                fresh=own.epochs == 0,
                atomic_energies=books.given_energies,
            )
        ]

    def reason(self, own: ConvergenceState) -> str | None:
        """Why it ended."""
        return own.reason

    def settled(self, state: State, own: ConvergenceState) -> bool:
        """Whether the training is over."""
        return own.reason is not None

    def delivers(self, state: State) -> bool:
        """What is converged is worth delivering."""
        return True

    def delivered(self, state: State, own: ConvergenceState) -> tuple[int, ...]:
        """Those that were converged."""
        return own.members

    def chosen(self, state: State) -> Iterator[StopCriterion]:
        """Those of the convergence's own list."""
        return (CONVERGE_STOP_CRITERIA[name] for name in state.rules.converge_stop_when)

    def in_methods(self, state: State) -> str | None:
        """Which members, on which data."""
        data = "all of it" if self._union(state) else "their own share of it"
        if state.rules.converge_best:
            return f"The best member at the end was trained to convergence on {data}."
        return f"All members at the end were trained to convergence on {data}."

    def _union(self, state: State) -> bool:
        return state.rules.converge_on == "union"

    @staticmethod
    def _everyone(state: State) -> tuple[int, ...]:
        return tuple(range(state.rules.ensemble_size))


class InitialConvergenceStage(ConvergenceStage):
    """Trains all members, each on its own part of the initial dataset, or on imported data."""

    def needed(self, state: State) -> bool:
        """Where the user wants it; data without models are trained on in any case."""
        books, rules = state.books, state.rules
        if books.imported:
            return not books.weights or rules.converge_imported
        return rules.converge_initial

    def begin(self, state: State) -> ConvergenceState:
        """All members."""
        return ConvergenceState(self._everyone(state))

    def target(self, state: State) -> float:
        """That of the initial dataset."""
        return state.rules.initial_target

    def in_methods(self, state: State) -> str | None:
        """Not worth a sentence: what follows trains these models on."""
        return None

    def _union(self, state: State) -> bool:
        return False


def best_member(members: tuple[MemberState, ...]) -> int:
    """The member with the lowest validation force MAE; the first one if none was validated."""

    def error(index: int) -> float:
        mae = members[index].force_mae
        return float("inf") if mae is None else mae

    return min(range(len(members)), key=error)


INITIAL_CONVERGENCE = InitialConvergenceStage(
    "converge_initial",
    "Converging the initial models",
    "initial_dataset.log",
    "converge initial",
)
CONVERGENCE = ConvergenceStage(
    "convergence", "Converging the final models", "AL.log", "convergence"
)
