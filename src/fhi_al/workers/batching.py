"""Labels of one composition go to one group in a row: starting an engine anew takes time."""

from __future__ import annotations

from collections.abc import Iterable

from fhi_al.record.effects import Calculate, Effect
from fhi_al.record.outcome import Worker

MOST_IN_A_ROW = 8
"""Labels of one composition that a group gets while one of another waits longer."""


class Batching:
    """What each group had last."""

    def __init__(self) -> None:
        self._last: dict[Worker, tuple[str, int]] = {}

    def fits(self, group: Worker, effect: Effect) -> bool:
        """Whether a group's engine is at an effect's composition already."""
        return isinstance(effect, Calculate) and self._at(group)[0] == effect.composition

    def choose(self, group: Worker, effect: Effect, others: Iterable[Effect]) -> Effect:
        """What a group is to get.

        Args:
            group: that has room.
            effect: whose turn it would be.
            others: that wait as well, those that have waited longest first.

        Returns:
            The effect, or another label of the composition that the group is at.
        """
        if not isinstance(effect, Calculate) or self.fits(group, effect):
            return effect
        composition, in_a_row = self._at(group)
        if not composition or in_a_row >= MOST_IN_A_ROW:
            return effect
        return next((other for other in others if self.fits(group, other)), effect)

    def note(self, group: Worker, effect: Effect) -> None:
        """Remember what a group has got."""
        if isinstance(effect, Calculate):
            composition, in_a_row = self._at(group)
            same = composition == effect.composition
            self._last[group] = (effect.composition, in_a_row + 1 if same else 1)

    def _at(self, group: Worker) -> tuple[str, int]:
        return self._last.get(group, ("", 0))
