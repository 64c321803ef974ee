"""CUDA graphs: what a function does on a GPU, recorded once and played again.

A GPU is done with a small structure sooner than Python has launched the next of some thousand
kernels. A recording launches them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fhi_al.fast.padding import PaddedShape
from fhi_al.fast.tracing import Function, averages_as_tensors, names_of, tensors_of

_WARM_UP = 5
"""Evaluations before the recording: TorchScript compiles in the first ones."""

Results = tuple[torch.Tensor, ...]


class Recording:
    """Code for one function, architecture and shape on a GPU; made in less than a second.

    Args:
        function: to record.
        model: any member; only its architecture counts.
        inputs: of the function, that the shape holds.
        shape: to record for.
    """

    kind = "CUDA graph"

    def __init__(
        self, function: Function, model: Any, inputs: Mapping[str, torch.Tensor], shape: PaddedShape
    ) -> None:
        self.shape = shape
        self.dtype = inputs["positions"].dtype
        self._function = function
        self._model = model
        self._inputs = function.pad(inputs, shape)

    def load(self) -> Callable[..., Results]:
        """Make the recording: a function of weights and inputs.

        Raises:
            RuntimeError: it can't be made.
        """
        # A recording reads and writes always the same memory.
        weights = [tensor.clone() for tensor in tensors_of(self._model)]
        inputs = {name: tensor.clone() for name, tensor in self._inputs.items()}
        named = dict(zip(names_of(self._model), weights, strict=True))

        def compute() -> Results:
            with averages_as_tensors(self._model):
                return self._function(self._model, named, inputs)

        try:
            replay, results = record(compute)
        # Whatever CUDA, TorchScript or an extension have against it, the eager path works.
        except Exception as error:
            raise RuntimeError(f"recording failed: {type(error).__name__}: {error}") from error
        fixed = [*weights, *inputs.values()]
        floats = [i for i, tensor in enumerate(fixed) if tensor.dtype == self.dtype]
        others = [i for i, tensor in enumerate(fixed) if tensor.dtype != self.dtype]

        def play(*arguments: torch.Tensor) -> Results:
            # One kernel for many tensors, if they are of one type.
            for some in (floats, others):
                torch._foreach_copy_([fixed[i] for i in some], [arguments[i] for i in some])
            replay()
            return tuple(result.clone() for result in results)

        return play


def record(compute: Callable[[], Results]) -> tuple[Callable[[], None], Results]:
    """Record what a computation does on the GPU that its tensors are on.

    Returns:
        What does it again, and its results, which that overwrites.
    """
    with torch.cuda.device(compute()[0].device):
        beside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                compute()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = compute()
    return graph.replay, results
