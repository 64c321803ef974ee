"""Forces of a committee, by compiled code where there is some."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fhi_al.ensemble.compilation import PATIENCE_SECONDS, Code, tensors_of
from fhi_al.ensemble.padding import Shape, Tensors, pad

Forces = tuple[torch.Tensor, torch.Tensor]
"""(members, structures) energies in eV and (members, atoms, 3) forces in eV/Å."""


@dataclass(frozen=True)
class EnergyAndForces:
    """Energies and forces of padded structures, by one member.

    Attributes:
        cutoff: of the model, in Å.
    """

    cutoff: float

    def pad(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> Tensors:
        """Bring inputs of a model to a shape."""
        return pad(inputs, shape, self.cutoff)

    def __call__(self, model: Any, weights: Tensors, inputs: Tensors) -> Forces:
        """Evaluate the model with these weights."""
        positions = inputs["positions"].detach().requires_grad_(True)
        data = {**inputs, "positions": positions}
        out = torch.func.functional_call(model, weights, (data,), {"compute_force": False})
        (gradient,) = torch.autograd.grad(out["energy"].sum(), positions)
        return out["energy"].detach(), -gradient


class FastForces:
    """Evaluates a committee by compiled code once there is some, else by the eager models.

    Args:
        expected: structures that are usually evaluated together.
        patience_seconds: of eager evaluation before code is compiled that is not in the cache.
    """

    def __init__(self, expected: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._expected = expected
        self._patience = patience_seconds
        self._code: Code | None = None

    @property
    def path(self) -> str:
        """How forces were computed the last time: `eager` or `compiled`."""
        return "eager" if self._code is None else self._code.path

    def load(self, models: Sequence[Any]) -> None:
        """Take other models, or the same with other weights."""
        self._model = models[0]
        self._weights = [tensors_of(model) for model in models]
        function = EnergyAndForces(float(self._model.r_max))
        if self._code is None or self._code.function != function:
            self._code = Code(function, "the committee's forces", self._patience)
        self._code.trusted = False

    def evaluate(self, inputs: Tensors, eager: Callable[[], Forces]) -> Forces:
        """Energies and forces of a batch that molecular dynamics moves.

        Args:
            inputs: of a model.
            eager: evaluates the same with the models themselves.
        """
        code = self._code
        assert code is not None
        if not code.find(self._model, inputs, Shape.with_room(inputs, self._expected)):
            began = time.perf_counter()
            out = eager()
            code.spend(time.perf_counter() - began)
            return out
        if not code.trusted:
            return self._check(code, inputs, eager)
        code.path = "compiled"
        return self._run(code, inputs)

    def _check(self, code: Code, inputs: Tensors, eager: Callable[[], Forces]) -> Forces:
        """Compare with the eager models, in values and, the first time, in speed."""
        began = time.perf_counter()
        out = eager()
        slow = time.perf_counter() - began
        fast = math.inf
        for _ in range(3):
            began = time.perf_counter()
            _, forces = self._run(code, inputs)
            fast = min(fast, time.perf_counter() - began)
        largest = float(out[1].abs().max())
        if math.isfinite(largest):
            error = float((forces - out[1]).abs().max())
            code.judge(error, max(largest, 0.01), "eV/Å", eager=slow, fast=fast)
        return out

    def _run(self, code: Code, inputs: Tensors) -> Forces:
        structures, atoms = len(inputs["head"]), len(inputs["positions"])
        results = [code(weights, inputs) for weights in self._weights]
        return (
            torch.stack([energies[:structures].double() for energies, _ in results]),
            torch.stack([forces[:atoms].double() for _, forces in results]),
        )
