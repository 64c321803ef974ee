"""Structures that wait to be chosen, while the walkers that found them go on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from fhi_al.procedures.state import Books
from fhi_al.record.effects import Calculate, Select
from fhi_al.record.events import Candidate, Purpose, Selected


@dataclass(frozen=True)
class PoolRules:
    """How structures are chosen.

    Attributes:
        ahead: most that are chosen and wait for their labels; more are chosen when half of them
            are left.
        capacity: most that stay in the pool when it has been looked at.
        by: what makes two structures alike, a key of `MEASURES`.
        alike: distance in that measure below which two structures are near-duplicates. For
            `descriptors`, 0.01 is about what moving each of ten atoms by 0.01 Å, at random, makes.
        weight: of the uncertainty, from 0 (all for diversity) to 1 (all for the uncertainty).
    """

    ahead: int
    capacity: int = 200
    by: str = "descriptors"
    alike: float = 0.01
    weight: float = 0.5


@dataclass
class Pool:
    """What waits, what was chosen, and what left without a label.

    A structure that has an outcome is not in the pool any more: the books know it.

    Attributes:
        waiting: key -> candidate, of those that may be chosen.
        chosen: key -> candidate, of those whose labels are wanted, the best first.
        left: key -> why, of those that left without a label.
        n_selections: so far, which number the effects.
    """

    waiting: dict[str, Candidate] = field(default_factory=dict)
    chosen: dict[str, Candidate] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    n_selections: int = 0

    def __contains__(self, key: str) -> bool:
        return key in self.waiting or key in self.chosen

    def __bool__(self) -> bool:
        return bool(self.waiting or self.chosen)

    def enter(self, books: Books, candidate: Candidate) -> None:
        """Let a structure wait, unless it was there before or is known."""
        key = candidate.key
        known = key in books.outcomes or key in books.retries or key in self.left
        if not known and key not in self:
            self.waiting[key] = candidate

    def leave(self, key: str) -> Candidate | None:
        """Let go of a structure that has an outcome, or is somebody else's now.

        Returns:
            The candidate, if it was here.
        """
        return self.waiting.pop(key, None) or self.chosen.pop(key, None)

    def take(self, event: Selected, weights: str | None, room: int) -> None:
        """Believe a selection, unless the models have been trained since.

        Args:
            event: what was chosen, and what dropped.
            weights: the newest checkpoint.
            room: labels that may still be bought.
        """
        self.n_selections += 1
        if event.weights != weights:
            return
        for key, why in event.dropped:
            if self.waiting.pop(key, None) is not None:
                self.left[key] = why
        for key in [key for key in event.chosen if key in self.waiting][: max(room, 0)]:
            self.chosen[key] = self.waiting.pop(key)

    def renew(self, in_flight: Collection[str]) -> None:
        """Let all be scored again, as the models know more: those chosen as well, if not begun.

        Args:
            in_flight: ids of effects.
        """
        for key, candidate in list(self.chosen.items()):
            if calculate(candidate).id not in in_flight:
                self.waiting[key] = self.chosen.pop(key)

    def labels(self) -> Iterator[Calculate]:
        """The labels that are wanted, the best structures first."""
        return map(calculate, self.chosen.values())

    def structures(self) -> Iterator[str]:
        """Keys of the structures whose files are needed."""
        yield from self.waiting
        yield from self.chosen

    def wanted(
        self, rules: PoolRules, books: Books, room: int, others: Collection[str] = ()
    ) -> Select | None:
        """A look at the pool, where labels of more structures should be wanted.

        Args:
            rules: how to choose.
            books: with the models and the datasets.
            room: labels that may still be bought.
            others: keys of structures outside of the pool that wait for their labels.
        """
        ready = self.waiting and books.weights is not None
        if not ready or room <= 0 or len(self.chosen) > rules.ahead // 2:
            return None
        assert books.weights is not None
        return Select(
            id=f"select-{self.n_selections}",
            weights=books.weights,
            waiting=tuple(sorted(self.waiting)),
            ahead=tuple(sorted({*self.chosen, *others})),
            entries=books.entries,
            count=min(rules.ahead - len(self.chosen), room),
            capacity=rules.capacity,
            by=rules.by,
            alike=rules.alike,
            weight=rules.weight,
        )


@lru_cache(maxsize=10_000)  # asked for again with every event while it waits
def calculate(candidate: Candidate, purpose: Purpose = "candidate") -> Calculate:
    """Ask the reference for a structure that was found."""
    return Calculate(
        id=f"label-{candidate.key}",
        key=candidate.key,
        purpose=purpose,
        trajectory=candidate.trajectory,
        step=candidate.step,
        uncertainty=candidate.uncertainty,
        threshold=candidate.threshold,
        composition=candidate.composition,
    )
