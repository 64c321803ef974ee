"""What a run remembers, kept from the garbage collector."""

from __future__ import annotations

import gc

OFTEN = 2000
"""Events between two looks: a millisecond or two each, but the first one. Short runs need none."""


class Remembered:
    """Has what lives as long as the run looked through once, and not again and again.

    A full collection walks through all labels, models and modules: a tenth of a second in which no
    worker gets an answer.
    """

    def __init__(self) -> None:
        self._new = 0

    def note(self, count: int) -> None:
        """So many events more are remembered."""
        self._new += count
        if self._new >= OFTEN:
            gc.collect()
            gc.freeze()
            self._new = 0

    def close(self) -> None:
        """The run is over: everything is looked through again as usual."""
        gc.unfreeze()
