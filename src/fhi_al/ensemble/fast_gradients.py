"""Gradients of the training loss, by compiled code where there is some."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from mace.data import AtomicData
from mace.modules import loss as losses
from mace.modules.symmetric_contraction import Contraction
from torch.overrides import TorchFunctionMode

from fhi_al.ensemble.data import collate, stacked
from fhi_al.ensemble.member import Member
from fhi_al.fast.code import CompiledFunction, MakeCode, code_for
from fhi_al.fast.padding import INPUTS, PaddedShape, Tensors, fill, pad
from fhi_al.fast.tracing import tensors_of

PATIENCE_SECONDS = 5.0
"""Of eager steps before it is worth compiling: a run that trains at all trains for minutes."""

# MACE's losses that are linear in the weights of the structures, and what each compares. With
# weights the padding can be left out of their means; the others stay eager.
_COMPARES = {
    losses.WeightedForcesLoss: ("forces",),
    losses.WeightedEnergyForcesLoss: ("energy", "forces"),
    losses.WeightedEnergyForcesStressLoss: ("energy", "forces", "stress"),
    losses.WeightedEnergyForcesVirialsLoss: ("energy", "forces", "virials"),
}


@dataclass(frozen=True)
class LossAndGradient:
    """The training loss of padded structures, and its gradient by the parameters of a member.

    Attributes:
        cutoff: of the model, in Å.
        loss: class of the loss, one of `_COMPARES`.
    """

    contraction: ClassVar[type] = Contraction

    cutoff: float
    loss: type[Any]

    @property
    def compares(self) -> tuple[str, ...]:
        """The quantities that enter the loss."""
        return _COMPARES[self.loss]

    def inputs(self, graphs: Sequence[AtomicData], loss: Any) -> Tensors:
        """Put together what the loss needs of graphs, and their weights in it."""
        weights = [f"{name}_weight" for name in self.compares]
        found = stacked(graphs, (*INPUTS, *self.compares, "weight", *weights))
        own = found.pop("weight")
        for name in weights:
            found[name] = own * found[name] * getattr(loss, name)
        return found

    def pad(self, inputs: Mapping[str, torch.Tensor], shape: PaddedShape) -> Tensors:
        """Bring a batch to a shape, with weights that keep the padding out of the loss.

        The loss takes means over structures, or over atoms for forces: as many as there are with
        the padding, so the weights grow by that.
        """
        padded = pad(inputs, shape, self.cutoff)
        sizes = {"forces": (len(inputs["positions"]), shape.atoms)}
        for name in self.compares:
            own, full = sizes.get(name, (len(inputs["head"]), shape.structures))
            padded[name] = fill(inputs[name], full)
            weight = inputs[f"{name}_weight"] * (full / own)
            padded[f"{name}_weight"] = fill(weight, shape.structures)
        return padded

    def __call__(self, model: Any, weights: Tensors, inputs: Tensors) -> tuple[torch.Tensor, ...]:
        """Compute the loss, and its gradient by each parameter."""
        parameters = {
            name: weights[name].detach().requires_grad_(True)
            for name, _ in model.named_parameters()
        }
        prediction = torch.func.functional_call(
            model,
            {**weights, **parameters},
            ({name: inputs[name] for name in INPUTS},),
            {
                "training": True,
                "compute_force": True,
                "compute_virials": "virials" in self.compares,
                "compute_stress": "stress" in self.compares,
            },
        )
        reference = _Reference(inputs, weight=torch.ones_like(inputs["forces_weight"]))
        loss_function = self.loss(**{f"{name}_weight": 1.0 for name in self.compares})
        with _RepeatedByIndex(inputs["batch"]):
            loss = loss_function(pred=prediction, ref=reference)
        by = list(parameters.values())
        gradients = torch.autograd.grad(loss, by, allow_unused=True, materialize_grads=True)
        return (loss.detach(), *gradients)


class _Reference(dict[str, torch.Tensor]):
    """What losses want: items that are attributes too."""

    def __getattr__(self, name: str) -> torch.Tensor:
        return self[name]


class _RepeatedByIndex(TorchFunctionMode):
    """Repeats numbers of structures for their atoms, without looking at how many there are.

    `repeat_interleave` has a result of unknown size, which can't be compiled.
    """

    def __init__(self, index: torch.Tensor) -> None:
        super().__init__()
        self._index = index

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.repeat_interleave:
            return args[0][self._index]
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Weights:
    """Weights of a model, looked up once: walking through the modules takes as long as a layer.

    Attributes:
        names: of the parameters.
        parameters: as the optimizer knows them.
        tensors: as compiled code takes them.
    """

    names: tuple[str, ...]
    parameters: tuple[torch.nn.Parameter, ...]
    tensors: list[torch.Tensor]


@dataclass(frozen=True)
class KnownGradient:
    """The loss of a batch, and its gradient.

    Attributes:
        loss: of the batch.
        parameters: that the loss depends on.
        gradients: by each of them; compiled code may give a tensor that is not ours to change.
    """

    loss: torch.Tensor
    parameters: Sequence[torch.nn.Parameter]
    gradients: Sequence[torch.Tensor]


class FastGradients:
    """Gives training the gradient of its loss, once there is code.

    Args:
        patience_seconds: of eager steps before code is compiled that is not in the cache.
        insist: whether right code is used even where it is slower than the eager path.
        make: makes the code.

    Attributes:
        patience_seconds: see above; likewise `insist`.
    """

    def __init__(
        self,
        patience_seconds: float = PATIENCE_SECONDS,
        *,
        insist: bool = False,
        make: MakeCode = code_for,
    ) -> None:
        self.patience_seconds = patience_seconds
        self.insist = insist
        self._make = make
        self._code: CompiledFunction | None = None
        self._needed: PaddedShape | None = None
        self._trained: set[str] = set()
        self._weights: WeakKeyDictionary[torch.nn.Module, _Weights] = WeakKeyDictionary()

    @property
    def path(self) -> str:
        """How gradients were computed the last time: `eager` or `compiled`."""
        return "eager" if self._code is None else self._code.path

    @property
    def awaits_code(self) -> bool:
        """Whether code that was wanted is not there yet."""
        return self._code is not None and self._code.awaited

    def doubt(self) -> None:
        """Compare the code with the model again before it is used."""
        if self._code is not None:
            self._code.trust.doubt()

    def begin(self, train_set: list[AtomicData], batch_size: int) -> None:
        """Get ready for batches of a dataset."""
        atoms = [len(graph.positions) for graph in train_set]
        edges = [graph.edge_index.shape[1] for graph in train_set]
        self._needed = PaddedShape.of_largest(atoms, edges, batch_size)

    def spend(self, seconds: float) -> None:
        """Count time that an eager step took."""
        if self._code is not None:
            self._code.spend(seconds)

    def of(self, member: Member, graphs: Sequence[AtomicData]) -> KnownGradient | None:
        """Loss and gradient of a batch, or None: the eager path has to do it.

        Args:
            member: whose.
            graphs: the batch, not put together yet.
        """
        loss = member.loss
        if type(loss) not in _COMPARES or self._needed is None:
            return None
        model: Any = member.model
        function = LossAndGradient(float(model.r_max), type(loss))
        if self._code is None or self._code.function != function:
            what = "the gradients of training"
            self._code = CompiledFunction(
                function, what, self.patience_seconds, insist=self.insist, make=self._make
            )
        code = self._code
        inputs = function.inputs(graphs, loss)
        if not code.find(model, inputs, self._needed):
            return None
        if code.trust.due:
            self._check(code, function.compares, member, collate(graphs), inputs)
        if not code.trust.given:
            return None
        code.in_use = True
        weights = self._weights_of(model)
        value, *gradients = code(weights.tensors, code.padded(inputs))
        trained = [name in self._trained for name in weights.names]
        return KnownGradient(
            value,
            tuple(itertools.compress(weights.parameters, trained)),
            tuple(itertools.compress(gradients, trained)),
        )

    def _weights_of(self, model: torch.nn.Module) -> _Weights:
        """Those of a member: training changes what they hold, not where they are."""
        if model not in self._weights:
            names, parameters = zip(*model.named_parameters(), strict=True)
            self._weights[model] = _Weights(names, parameters, tensors_of(model))
        return self._weights[model]

    def _check(
        self,
        code: CompiledFunction,
        compares: tuple[str, ...],
        member: Member,
        batch: Any,
        inputs: Tensors,
    ) -> None:
        """Compare with the eager model, in values and, the first time, in speed."""
        parameters = dict(member.model.named_parameters())
        member.optimizer.zero_grad(set_to_none=True)
        began = time.perf_counter()
        prediction = member.model(
            batch.to_dict(),
            training=True,
            compute_force=True,
            compute_virials="virials" in compares,
            compute_stress="stress" in compares,
        )
        loss = member.loss(pred=prediction, ref=batch)
        loss.backward()
        slow = time.perf_counter() - began
        fast = math.inf
        for _ in range(1 if code.in_use else 3):
            began = time.perf_counter()
            results = code(tensors_of(member.model), code.padded(inputs))
            fast = min(fast, time.perf_counter() - began)
        # The optimizer leaves parameters without a gradient alone; that is not a gradient of zero.
        self._trained = {name for name, p in parameters.items() if p.grad is not None}
        exact = [loss.detach(), *(p.grad for p in parameters.values())]
        error = largest = 0.0
        for ours, true in zip(results, exact, strict=True):
            if true is not None:
                error = max(error, float((ours - true).abs().max()))
                largest = max(largest, float(true.abs().max()))
        if math.isfinite(largest):
            code.judge(error, largest, "in the gradient", eager=slow, fast=fast)
