"""Stand for compiled code: for what is done with it, not for what it says."""

import torch

from fhi_al.fast.tracing import names_of


class RightCode:
    """Stands for code that is in the cache for the full shape, and later for half of it."""

    kind = "compiled"
    cached = (5,)

    def __init__(self, function, model, inputs, shape):
        self.shape = shape
        self.dtype = torch.float64
        self._function, self._model = function, model
        self._names = names_of(model)
        self._inputs = tuple(inputs)

    def in_cache(self):
        return self.shape.structures in self.cached

    def load(self):
        def run(*arguments):
            used.append(self.shape.structures)
            weights = dict(zip(self._names, arguments, strict=False))
            # The model has them itself, as numbers.
            weights = {n: w for n, w in weights.items() if not n.endswith("avg_num_neighbors")}
            inputs = dict(zip(self._inputs, arguments[len(self._names) :], strict=True))
            return self._function(self._model, weights, inputs)

        return run


used: list[int] = []
"""Structures that fit, and one more, of the code of each evaluation."""
