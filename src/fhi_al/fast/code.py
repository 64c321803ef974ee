"""Faster code for what committee members are asked all the time: had, compared, trusted, used.

Nothing here is trusted: code is compared with the eager model before it is used, and again whenever
weights have changed. It is compiled in the background (`compilation.py`), or, on a GPU, recorded
(`recording.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fhi_al.fast.compilation import Compilation
from fhi_al.fast.padding import PaddedShape
from fhi_al.fast.recording import Recording
from fhi_al.fast.tracing import Function

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 20.0
"""Of eager evaluation before it is worth compiling: shorter runs would not get it back."""

_MAX_FAILURES = 3
"""Comparisons in a row that go wrong before code is given up."""

# Largest difference that rounding explains, relative to the largest number.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def device_clock(device: torch.device) -> float:
    """Seconds, read when a device has done all that it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def allowed_error(largest: torch.Tensor | float, dtype: torch.dtype) -> float:
    """What rounding explains: the largest error of numbers that are at most so large."""
    return _TOLERANCE[dtype] * float(largest)


class EagerComparison:
    """Trust in code, by comparisons with the eager model.

    Where numbers are badly conditioned (atoms that come too close), rounding alone can exceed what
    is allowed: the eager path goes on until the next comparison.

    Attributes:
        due: whether to compare before the code is used.
        given: whether the last comparison was good.
    """

    def __init__(self) -> None:
        self.due = True
        self.given = False
        self._failures = 0

    @property
    def lost(self) -> bool:
        """Whether several comparisons in a row were not good, so that the code is wrong."""
        return self._failures >= _MAX_FAILURES

    def doubt(self) -> None:
        """Compare again before the code is used."""
        self.due, self.given = True, False

    def compared(self, right: bool) -> None:
        """Take the result of a comparison."""
        self.due, self.given = False, right
        self._failures = 0 if right else self._failures + 1


def code_for(
    function: Function, model: Any, inputs: Mapping[str, torch.Tensor], shape: PaddedShape
) -> Compilation | Recording:
    """Code of a function for inputs of a shape: recorded on a GPU, else compiled; not yet made."""
    make = Recording if inputs["positions"].is_cuda else Compilation
    return make(function, model, inputs, shape)


MakeCode = Callable[[Function, Any, Mapping[str, torch.Tensor], PaddedShape], Any]
"""What `code_for` is; what it makes has the methods of `Compilation`."""


class CompiledFunction:
    """A function by faster code, once that pays, and by other code where its inputs outgrow it.

    Args:
        function: what it computes.
        what: that is in words, for the log.
        patience_seconds: of eager evaluation before code is compiled that is not in the cache.
        insist: whether right code is used even where it is slower than the eager path.
        make: makes the code.

    Attributes:
        in_use: whether the function was evaluated by code the last time.
        trust: whether the code was found to be right; its user doubts it when weights change.
        failed: whether there will be no code.
    """

    def __init__(
        self,
        function: Function,
        what: str,
        patience_seconds: float = PATIENCE_SECONDS,
        *,
        insist: bool = False,
        make: MakeCode = code_for,
    ) -> None:
        self.function = function
        self.in_use = False
        self.trust = EagerComparison()
        self._insist = insist
        self._make = make
        self._what = what
        self._patience = patience_seconds
        self._spent = 0.0
        self._wanted: PaddedShape | None = None
        self._shape: PaddedShape | None = None
        self._run: Any = None
        self._kind = ""
        self._compilation: Compilation | None = None
        self._next: Any = None
        self.failed = False

    @property
    def path(self) -> str:
        """How the function was evaluated the last time: `eager`, `compiled` or `CUDA graph`."""
        return self._kind if self.in_use else "eager"

    @property
    def awaited(self) -> bool:
        """Whether there is no code in use yet, but may be."""
        return not (self.in_use or self.failed)

    def find(self, model: Any, inputs: Mapping[str, torch.Tensor], needed: PaddedShape) -> bool:
        """Whether there is code for inputs of this size: had, in the cache, or just compiled.

        Args:
            model: any member; only its architecture counts.
            inputs: of the function.
            needed: a shape that holds them, and others that are likely to come.
        """
        if not self.failed:
            self._prepare(model, inputs, needed)
        if self.holds(inputs):
            return True
        self.in_use = False
        return False

    def holds(self, inputs: Mapping[str, torch.Tensor]) -> bool:
        """Whether there is code that inputs fit into."""
        return self._run is not None and self._shape is not None and self._shape.holds(inputs)

    def spend(self, seconds: float) -> None:
        """Count time that the eager path took for want of code."""
        self._spent += seconds

    def padded(self, inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Inputs of the function, as the code that was found takes them for any member."""
        assert self._shape is not None
        return list(self.function.pad(inputs, self._shape).values())

    def __call__(
        self, weights: Sequence[torch.Tensor], padded: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Run the code that was found.

        Args:
            weights: of one member, as `tensors_of` gives them.
            padded: see `padded`.

        Returns:
            What the function does, padding included.
        """
        return tuple(self._run(*weights, *padded))

    def judge(self, error: float, largest: float, unit: str, *, eager: float, fast: float) -> None:
        """Trust the code, or don't, or give it up.

        Args:
            error: of its results, as an absolute difference from the eager path's.
            largest: number among the eager path's results.
            unit: of these.
            eager: seconds that the eager path took; counts the first time.
            fast: seconds that the code took.
        """
        allowed = allowed_error(largest, self._dtype)
        self.trust.compared(error <= allowed)
        if not self.trust.given:
            reason = f"{self._kind} code differs by {error:.1e} {unit}, {allowed:.1e} is allowed"
            if self.trust.lost:
                self._give_up(reason)
            else:
                log.info("%s: eager for now, as %s", self._what, reason)
                self.in_use = False
        elif not self.in_use and fast > eager and not self._insist:
            self._give_up(
                f"{self._kind} code takes {1e3 * fast:.1f} ms, eager {1e3 * eager:.1f} ms"
            )
        elif not self.in_use:
            log.info(
                "%s, %s: %.1f ms a step, eager %.1f ms; they differ by %.1e %s",
                self._what,
                self._kind,
                1e3 * fast,
                1e3 * eager,
                error,
                unit,
            )

    def _prepare(self, model: Any, inputs: Mapping[str, torch.Tensor], needed: PaddedShape) -> None:
        """Get code for inputs of this size: from the cache, or by having it compiled."""
        if self._compilation is not None:
            if not self._compilation.finished():
                return
            self._take(self._compilation)
            self._compilation = None
            return
        if self._shape is not None and self._shape.holds(inputs):
            return
        if self._wanted is None or not self._wanted.holds(inputs):
            self._wanted = needed if self._wanted is None else needed.union(self._wanted)
        if self._next is None or self._next.shape != self._wanted:
            self._next = self._make(self.function, model, inputs, self._wanted)
        if isinstance(self._next, Recording) or self._next.in_cache():
            self._take(self._next)
            self._next = None
        elif self._spent > self._patience:
            log.info("compiling %s for %s in the background", self._what, self._wanted)
            self._next.begin()
            self._compilation, self._next = self._next, None

    def _take(self, found: Compilation | Recording) -> None:
        try:
            self._run = found.load()
        except (OSError, RuntimeError) as error:
            self._give_up(str(error))
        else:
            self._shape, self._dtype, self._kind = found.shape, found.dtype, found.kind
            self.trust.doubt()

    def _give_up(self, reason: str) -> None:
        self._run, self.failed, self.in_use = None, True, False
        self.trust.doubt()
        log.warning("%s: it stays eager: %s", self._what, reason)
