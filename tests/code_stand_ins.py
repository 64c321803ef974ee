"""Stand for compiled code: for what is done with it, not for what it says."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from fhi_al.fast.tracing import names_of


@dataclass
class Codes:
    """Makes code as `fast.code.code_for` does, that asks the model itself.

    Attributes:
        cached: shapes that are in the cache, by their structures: those that fit, and one more.
        done: whether what was begun is finished.
        off_by: error of the last result, the forces or the last gradient.
        slow_s: seconds that each evaluation takes longer.
        begun: structures of the shapes that were to be compiled.
        used: structures of the shape of each evaluation.
    """

    cached: tuple[int, ...] = ()
    done: bool = False
    off_by: float = 0.0
    slow_s: float = 0.0
    begun: list[int] = field(default_factory=list)
    used: list[int] = field(default_factory=list)

    def __call__(self, function, model, inputs, shape) -> Code:
        return Code(self, function, model, inputs, shape)


class Code:
    """One of them."""

    kind = "compiled"

    def __init__(self, codes, function, model, inputs, shape):
        self.shape = shape
        self.dtype = inputs["positions"].dtype
        self._codes = codes
        self._function, self._model = function, model
        self._names = names_of(model)
        self._inputs = tuple(function.pad(inputs, shape))

    def in_cache(self):
        return self.shape.structures in self._codes.cached

    def begin(self):
        self._codes.begun.append(self.shape.structures)

    def finished(self):
        return self._codes.done

    def load(self):
        return self._run

    def _run(self, *arguments: torch.Tensor):
        self._codes.used.append(self.shape.structures)
        time.sleep(self._codes.slow_s)
        weights = dict(zip(self._names, arguments, strict=False))
        # The model has them itself, as numbers.
        weights = {n: w for n, w in weights.items() if not n.endswith("avg_num_neighbors")}
        inputs = dict(zip(self._inputs, arguments[len(self._names) :], strict=True))
        *others, last = self._function(self._model, weights, inputs)
        return *others, last + self._codes.off_by
