"""What a run remembers, kept from the garbage collector."""

from __future__ import annotations

import gc
from types import TracebackType
from typing import Self

_OFTEN = 500
"""Events between two looks: some milliseconds each."""


class Remembered:
    """Has what lives as long as the run looked through once, and not again and again.

    A full collection walks through all labels, models and modules: a tenth of a second in which no
    worker gets an answer.
    """

    def __init__(self) -> None:
        self._new = 0

    def __enter__(self) -> Self:
        self._keep()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        gc.unfreeze()

    def note(self, count: int) -> None:
        """So many events more are remembered."""
        self._new += count
        if self._new >= _OFTEN:
            self._keep()

    def _keep(self) -> None:
        gc.collect()
        gc.freeze()
        self._new = 0
