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

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""(members, structures) energies in eV, (members, atoms, 3) forces in eV/Å, and, where asked for,
(members, structures, 3, 3) virials in eV."""


@dataclass(frozen=True)
class EnergyAndForces:
    """Energies, forces and perhaps virials of padded structures, by one member.

    Attributes:
        cutoff: of the model, in Å.
        virials: whether they are wanted.
    """

    cutoff: float
    virials: bool = False

    def pad(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> Tensors:
        """Bring inputs of a model to a shape."""
        return pad(inputs, shape, self.cutoff)

    def __call__(self, model: Any, weights: Tensors, inputs: Tensors) -> tuple[torch.Tensor, ...]:
        """Evaluate the model with these weights."""
        positions = inputs["positions"].detach().requires_grad_(True)
        data = {**inputs, "positions": positions}
        variables = [positions]
        if self.virials:
            strain = positions.new_zeros((len(inputs["head"]), 3, 3)).requires_grad_(True)
            symmetric = (strain + strain.transpose(1, 2)) / 2
            owner, sender = inputs["batch"], inputs["edge_index"][0]
            shifts = inputs["shifts"]
            data["positions"] = positions + _strained(positions, symmetric[owner])
            data["shifts"] = shifts + _strained(shifts, symmetric[owner[sender]])
            variables.append(strain)
        out = torch.func.functional_call(model, weights, (data,), {"compute_force": False})
        gradients = torch.autograd.grad(out["energy"].sum(), variables)
        return out["energy"].detach(), *(-gradient for gradient in gradients)


def _strained(vectors: torch.Tensor, strain: torch.Tensor) -> torch.Tensor:
    return torch.einsum("be,bec->bc", vectors, strain)


class FastForces:
    """Evaluates a committee by compiled code once there is some, else by the eager models.

    The first code is made for as many structures as there usually are. Where fewer move for long,
    and the padding has taken more time than it takes to compile, there is one for half as many,
    and so on.

    Args:
        expected: structures that are usually evaluated together.
        patience_seconds: of eager evaluation, or of evaluated padding, before code is compiled that
            is not in the cache.
    """

    def __init__(self, expected: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._capacities = [expected]
        while self._capacities[0] > 1:
            self._capacities.insert(0, (self._capacities[0] + 1) // 2)
        self._patience = patience_seconds
        self._codes: dict[tuple[bool, int], Code] = {}
        self._path = "eager"

    @property
    def path(self) -> str:
        """How forces were computed the last time: `eager` or `compiled`."""
        return self._path

    @property
    def awaits_code(self) -> bool:
        """Whether code that was wanted is not there yet."""
        return any(code.awaited for code in self._codes.values())

    def load(self, models: Sequence[Any]) -> None:
        """Take other models, or the same with other weights."""
        self._model = models[0]
        self._weights = [tensors_of(model) for model in models]
        for (virials, capacity), code in list(self._codes.items()):
            if code.function != EnergyAndForces(float(self._model.r_max), virials):
                del self._codes[virials, capacity]
            code.trusted = False

    def evaluate(
        self, inputs: Tensors, eager: Callable[[], Outputs], count: int, virials: bool
    ) -> Outputs:
        """Energies and forces of a batch that molecular dynamics moves.

        Args:
            inputs: of a model.
            eager: evaluates the same with the models themselves.
            count: members to ask, from the first one.
            virials: whether they are wanted.
        """
        n_structures = len(inputs["head"])
        capacities = [size for size in self._capacities if size >= n_structures]
        capacities = capacities or self._capacities[-1:]
        began = time.perf_counter()
        for capacity in capacities:
            code = self._code(virials, capacity)
            if code.find(self._model, inputs, Shape.with_room(inputs, capacity)):
                break
        else:
            out = eager()
            code.spend(time.perf_counter() - began)
            self._path = code.path
            return out
        if code.trusted:
            code.path = "compiled"
            out = self._run(code, inputs, count)
            padding = 1 - capacities[0] / capacity
            self._code(virials, capacities[0]).spend(padding * (time.perf_counter() - began))
        else:
            out = self._check(code, inputs, eager, count)
        self._path = code.path
        return out

    def _code(self, virials: bool, capacity: int) -> Code:
        if (virials, capacity) not in self._codes:
            function = EnergyAndForces(float(self._model.r_max), virials)
            what = "the committee's forces and stress" if virials else "the committee's forces"
            if capacity < self._capacities[-1]:
                what += f" for up to {capacity} trajectories" if capacity > 1 else " for one"
            self._codes[virials, capacity] = Code(function, what, self._patience)
        return self._codes[virials, capacity]

    def _check(
        self, code: Code, inputs: Tensors, eager: Callable[[], Outputs], count: int
    ) -> Outputs:
        """Compare with the eager models, in values and, the first time, in speed."""
        began = time.perf_counter()
        out = eager()
        slow = time.perf_counter() - began
        fast = math.inf
        for _ in range(3):
            began = time.perf_counter()
            _, forces, virials = self._run(code, inputs, count)
            fast = min(fast, time.perf_counter() - began)
        largest = float(out[1].abs().max())
        if math.isfinite(largest):
            error = float((forces - out[1]).abs().max())
            if virials is not None and out[2] is not None:
                # As errors of forces: a virial sums forces times distances.
                scale = largest / max(float(out[2].abs().max()), largest)
                error = max(error, scale * float((virials - out[2]).abs().max()))
            code.judge(error, max(largest, 0.01), "eV/Å", eager=slow, fast=fast)
        return out

    def _run(self, code: Code, inputs: Tensors, count: int) -> Outputs:
        structures, atoms = len(inputs["head"]), len(inputs["positions"])
        results = [code(weights, inputs) for weights in self._weights[:count]]
        energies = torch.stack([result[0][:structures].double() for result in results])
        forces = torch.stack([result[1][:atoms].double() for result in results])
        if len(results[0]) == 2:
            return energies, forces, None
        return energies, forces, torch.stack([out[2][:structures].double() for out in results])
