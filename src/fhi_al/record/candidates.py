"""What molecular dynamics notes on its way: uncertainties, and structures that are worth a look.

Parts of the event `Advanced`; imported from `events`, like all that events are made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """The uncertainties of all moving walkers at one check.

    Attributes:
        trajectories: which, in order.
        steps: MD step of each.
        uncertainties: of each, in eV/Å.
        temperatures: kinetic, in K.
    """

    trajectories: tuple[int, ...]
    steps: tuple[int, ...]
    uncertainties: tuple[float, ...]
    temperatures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A structure that was chosen during molecular dynamics.

    Attributes:
        reason: `threshold`, `overdue` (long without a crossing), `unstable` (the walker broke,
            this is its last sane frame), `audit`, or `pool`: others may be better worth a label.
        detail: of an unstable walker: what broke, in words and numbers.
        composition: chemical formula; "" in journals of earlier versions.
    """

    trajectory: int
    step: int
    key: str
    uncertainty: float
    threshold: float | None
    reason: Literal["threshold", "overdue", "unstable", "audit", "pool"]
    detail: str = ""
    composition: str = ""

    @property
    def blocks(self) -> bool:
        """Whether its walker waits for its label."""
        return self.reason not in ("audit", "pool")

    def __hash__(self) -> int:
        # Much cheaper than that of all fields, and looked up for every waiting walker all the time.
        return hash(self.key)
