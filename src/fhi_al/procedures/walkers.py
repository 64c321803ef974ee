"""A trajectory of active learning: where it stands, and what it may do next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from fhi_al.record.events import Candidate

WalkerStatus = Literal["running", "labelling", "training", "finished"]

MOVES: dict[WalkerStatus, tuple[WalkerStatus, ...]] = {
    # It found a structure, or came to its end.
    "running": ("labelling", "finished"),
    # The answer is there: to be learned, or nothing to learn from.
    "labelling": ("training", "running", "finished"),
    # It has been learned.
    "training": ("running", "finished"),
    # Its last check found a structure, or a new command lets it go on.
    "finished": ("labelling", "running"),
}
"""Status of a walker -> those that may follow."""

_REMEMBERED = 10


class IllegalMoveError(AssertionError):
    """A walker was to do what it can't: an error of the program, told with the walker's story."""


@dataclass
class WalkerState:
    """One trajectory of active learning.

    Attributes:
        number: of the trajectory.
        status: what it does; changed by `move` alone.
        step: MD steps done.
        quiet_checks: checks since its last label.
        candidate: what it waits for, while labelling.
        entry: index of its newest training entry, while training.
        epochs_left: before it moves on, while training.
        home: key of its last labelled structure; None means its geometry.
        reset: it must be put back to `home` before it moves.
        breakdowns: in a row, without a step, at structures that the reference has been asked for.
        story: its last moves: at which step, to which status.
    """

    number: int
    status: WalkerStatus = "running"
    step: int = 0
    quiet_checks: int = 0
    candidate: Candidate | None = None
    entry: int = -1
    epochs_left: int = 0
    home: str | None = None
    reset: bool = False
    breakdowns: int = 0
    story: deque[tuple[int, WalkerStatus]] = field(
        default_factory=lambda: deque(maxlen=_REMEMBERED), compare=False, repr=False
    )

    def move(self, status: WalkerStatus) -> None:
        """Go over to another status; staying is no move.

        Raises:
            IllegalMoveError: `MOVES` has no such move.
        """
        if status == self.status:
            return
        if status not in MOVES[self.status]:
            story = ", ".join(f"{what} at step {step}" for step, what in self.story)
            raise IllegalMoveError(
                f"trajectory {self.number} can't go from {self.status} to {status} at step "
                f"{self.step}; it was {story or 'running from its start'}"
            )
        self.status = status
        self.story.append((self.step, status))

    def go_on(self, last_step: int) -> None:
        """Run on, or be finished at the last step."""
        self.move("finished" if self.step >= last_step else "running")
