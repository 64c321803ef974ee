"""Data and models that the user brings, in place of an initial dataset."""

from __future__ import annotations

from fhi_al.procedures.procedure import Stage
from fhi_al.procedures.state import State
from fhi_al.record.effects import Effect, Import
from fhi_al.record.events import Event


class TakingOverStage(Stage[None]):
    """Takes over what the user brings; the books do all of it."""

    def begin(self, state: State) -> None:
        """It owns nothing."""

    def step(self, state: State, own: None, event: Event) -> None:
        """Nothing that the books don't know."""

    def wanted(self, state: State, own: None) -> list[Effect]:
        """The data."""
        if state.books.imported:
            return []
        return [Import(id="import", atomic_energies=state.books.given_energies)]

    def settled(self, state: State, own: None) -> bool:
        """Whether they are there."""
        return state.books.imported


TAKING_OVER = TakingOverStage("import", "Taking over data and models", "AL.log", "import")
