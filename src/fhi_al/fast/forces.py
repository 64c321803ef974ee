"""Forces of a committee, by compiled code where there is some."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fhi_al.fast.code import (
    PATIENCE_SECONDS,
    CompiledFunction,
    MakeCode,
    code_for,
    device_clock,
)
from fhi_al.fast.padding import PaddedShape, Tensors, pad
from fhi_al.fast.splitting import Outputs, joined_outputs, split
from fhi_al.fast.tracing import tensors_of

Eager = Callable[[Tensors, Sequence[int], bool], Outputs]
"""Evaluates structures with the models themselves: (inputs, members, whether virials too)."""

MESSAGES = 2**20
"""Numbers in the messages of structures that are evaluated together: more don't fit a processor's
cache, and a structure takes up to twice the time (benchmarks/md.py)."""


@dataclass(frozen=True)
class EnergyAndForces:
    """Energies, forces and perhaps virials of padded structures, by one member.

    Attributes:
        cutoff: of the model, in Å.
        contraction: MACE's class of the symmetric contractions in the model.
        virials: whether they are wanted.
    """

    cutoff: float
    contraction: type
    virials: bool = False

    def pad(self, inputs: Mapping[str, torch.Tensor], shape: PaddedShape) -> Tensors:
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

    The first code is made for as many structures as there usually are, or as can be evaluated
    together well. Where fewer move for long, and the padding has taken more time than it takes to
    compile, there is one for half as many, and so on.

    Args:
        expected: structures that usually move together.
        patience_seconds: of eager evaluation, or of evaluated padding, before code is compiled that
            is not in the cache.
        insist: whether right code is used even where it is slower than the eager path.
        messages: numbers in the messages of structures that are evaluated together on a processor.
        make: makes the code.

    Attributes:
        patience_seconds: see above; likewise `insist`.
    """

    def __init__(
        self,
        expected: int,
        patience_seconds: float = PATIENCE_SECONDS,
        *,
        insist: bool = False,
        messages: float = MESSAGES,
        make: MakeCode = code_for,
    ) -> None:
        self._capacities = [expected]
        while self._capacities[0] > 1:
            self._capacities.insert(0, (self._capacities[0] + 1) // 2)
        self.patience_seconds = patience_seconds
        self.insist = insist
        self._messages = messages
        self._make = make
        self._codes: dict[tuple[bool, int], CompiledFunction] = {}
        self._path = "eager"
        self._n_checks = 0

    @property
    def path(self) -> str:
        """How forces were computed the last time: `eager`, `compiled` or `CUDA graph`."""
        return self._path

    @property
    def awaits_code(self) -> bool:
        """Whether code that was wanted is not there yet."""
        return any(code.awaited for code in self._codes.values())

    def load(self, models: Sequence[Any], contraction: type) -> None:
        """Take other models, or the same with other weights.

        Args:
            models: of MACE.
            contraction: MACE's class of the symmetric contractions in them.
        """
        self._model, self._contraction = models[0], contraction
        self._weights = [tensors_of(model) for model in models]
        self._device = self._weights[0][0].device
        if self._device.type == "cpu":
            self._message = max(block.conv_tp.irreps_out.dim for block in self._model.interactions)
        for (virials, capacity), code in list(self._codes.items()):
            if code.function != self._function(virials):
                del self._codes[virials, capacity]
            code.trust.doubt()

    def evaluate(
        self, inputs: Tensors, eager: Eager, members: Sequence[int], virials: bool
    ) -> Outputs:
        """Energies and forces of a batch that molecular dynamics moves.

        Args:
            inputs: of a model.
            eager: evaluates with the models themselves.
            members: to ask.
            virials: whether they are wanted.
        """
        sizes = self._fitting(inputs)
        return joined_outputs(
            [
                self._evaluate(part, sizes, eager, members, virials)
                for part in split(inputs, sizes[-1])
            ]
        )

    def evaluate_one(
        self, weights: Sequence[torch.Tensor], inputs: Tensors
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Energies and forces of any structures, by a model of this architecture.

        Args:
            weights: of the model, as `tensors_of` gives them.
            inputs: of the model.

        Returns:
            (structures,) energies in eV and (atoms, 3) forces in eV/Å; None where no code has been
            of use in molecular dynamics yet, or a structure doesn't fit.
        """
        if not self._codes:
            return None
        known = {
            size: code
            for size in self._fitting(inputs)
            if (code := self._codes.get((False, size))) and code.in_use
        }
        if not known:
            return None
        capacity, code = max(known.items(), key=lambda item: item[0])
        parts = list(split(inputs, capacity))
        if not all(code.holds(part) for part in parts):
            return None
        results = [_unpadded(code(weights, code.padded(part)), part) for part in parts]
        energies, forces, *_ = zip(*results, strict=True)
        return torch.cat(energies), torch.cat(forces)

    def _fitting(self, inputs: Tensors) -> list[int]:
        """The capacities for which structures like these are not too much for one evaluation."""
        if self._device.type != "cpu":
            return self._capacities
        numbers = inputs["edge_index"].shape[1] * self._message / len(inputs["head"])
        return [size for size in self._capacities if size == 1 or size * numbers <= self._messages]

    def _evaluate(
        self,
        inputs: Tensors,
        sizes: Sequence[int],
        eager: Eager,
        members: Sequence[int],
        virials: bool,
    ) -> Outputs:
        """Evaluate structures, as many as fit into the largest of these capacities at most."""
        capacities = [size for size in sizes if size >= len(inputs["head"])]
        began = time.perf_counter()
        for capacity in capacities:
            code = self._code(virials, capacity)
            if code.find(self._model, inputs, PaddedShape.with_room(inputs, capacity)):
                break
        else:
            out = eager(inputs, members, virials)
            code.spend(time.perf_counter() - began)
            self._path = code.path
            return out
        if code.trust.due:
            self._check(code, inputs, eager, members, virials)
        if not code.trust.given:
            self._path = code.path
            return eager(inputs, members, virials)
        code.in_use = True
        self._path = code.path
        out = self._run(code, inputs, members)
        padding = 1 - capacities[0] / capacity
        self._code(virials, capacities[0]).spend(padding * (time.perf_counter() - began))
        return out

    def _code(self, virials: bool, capacity: int) -> CompiledFunction:
        if (virials, capacity) not in self._codes:
            what = "the committee's forces and stress" if virials else "the committee's forces"
            if capacity < self._capacities[-1]:
                what += f" for up to {capacity} trajectories" if capacity > 1 else " for one"
            self._codes[virials, capacity] = CompiledFunction(
                self._function(virials),
                what,
                self.patience_seconds,
                insist=self.insist,
                make=self._make,
            )
        return self._codes[virials, capacity]

    def _function(self, virials: bool) -> EnergyAndForces:
        return EnergyAndForces(float(self._model.r_max), self._contraction, virials)

    def _check(
        self,
        code: CompiledFunction,
        inputs: Tensors,
        eager: Eager,
        members: Sequence[int],
        virials: bool,
    ) -> None:
        """Compare with the eager models, in values and, the first time, in speed.

        Before its first use, code is compared for all members; after each training for one of them,
        in turn: nothing but weights is new then.
        """
        if code.in_use:
            self._n_checks += 1
            members = [members[self._n_checks % len(members)]]
        began = device_clock(self._device)
        _, exact, exact_virials = eager(inputs, members, virials)
        slow = device_clock(self._device) - began
        fast = math.inf
        for _ in range(1 if code.in_use else 3):
            began = device_clock(self._device)
            _, forces, found_virials = self._run(code, inputs, members)
            fast = min(fast, device_clock(self._device) - began)
        largest = float(exact.abs().max())
        if not math.isfinite(largest):
            return
        error = float((forces - exact).abs().max())
        if found_virials is not None and exact_virials is not None:
            # As errors of forces: a virial sums forces times distances.
            scale = largest / max(float(exact_virials.abs().max()), largest)
            error = max(error, scale * float((found_virials - exact_virials).abs().max()))
        code.judge(error, max(largest, 0.01), "eV/Å", eager=slow, fast=fast)

    def _run(self, code: CompiledFunction, inputs: Tensors, members: Sequence[int]) -> Outputs:
        padded = code.padded(inputs)
        results = [_unpadded(code(self._weights[member], padded), inputs) for member in members]
        stacked = [torch.stack(values).double() for values in zip(*results, strict=True)]
        return stacked[0], stacked[1], stacked[2] if len(stacked) > 2 else None


def _unpadded(results: tuple[torch.Tensor, ...], inputs: Tensors) -> tuple[torch.Tensor, ...]:
    """Results for structures alone: energies, forces, and virials where there are some."""
    energies, forces, *virials = results
    structures, atoms = len(inputs["head"]), len(inputs["positions"])
    return energies[:structures], forces[:atoms], *(value[:structures] for value in virials)
