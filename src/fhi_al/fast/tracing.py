"""Functions of a MACE model as graphs of plain tensor operations, with all tensors as arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.fx.passes.shape_prop import ShapeProp

from fhi_al.fast.contraction import sparse_contractions
from fhi_al.fast.padding import PaddedShape, Tensors


class Function(Protocol):
    """What is compiled. Its `repr` says all that it depends on, and it can be pickled."""

    @property
    def contraction(self) -> type:
        """MACE's class of the symmetric contractions in the model."""

    def pad(self, inputs: Mapping[str, torch.Tensor], shape: PaddedShape) -> Tensors:
        """Bring inputs to the shape that code is made for."""

    def __call__(self, model: Any, weights: Tensors, inputs: Tensors) -> tuple[torch.Tensor, ...]:
        """Compute something.

        Args:
            model: only its architecture counts.
            weights: to use: parameters and buffers, by name.
            inputs: padded.
        """


def tensors_of(model: Any, parameters: Iterable[torch.Tensor] | None = None) -> list[torch.Tensor]:
    """The weights that compiled code takes: parameters, buffers, and the mean number of neighbours.

    Args:
        model: a MACE model.
        parameters: to take in place of the model's.
    """
    tensors = [*(model.parameters() if parameters is None else parameters), *model.buffers()]
    like = next(model.parameters())
    return [
        *(tensor.detach() for tensor in tensors),
        *(like.new_tensor(float(block.avg_num_neighbors)) for block in model.interactions),
    ]


def names_of(model: Any) -> list[str]:
    """The names of what `tensors_of` gives."""
    return [
        *(name for name, _ in (*model.named_parameters(), *model.named_buffers())),
        *(f"interactions.{index}.avg_num_neighbors" for index in range(len(model.interactions))),
    ]


def trace(
    function: Function, model: Any, inputs: Tensors
) -> tuple[torch.fx.GraphModule, tuple[torch.Tensor, ...]]:
    """Write a function as a graph that has all tensors as arguments.

    Args:
        function: to trace.
        model: of the architecture.
        inputs: padded.

    Returns:
        The graph, and arguments for it: the model's weights, then the inputs.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    arguments = (*tensors_of(model), *inputs.values())
    names = names_of(model)

    def flat(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        weights = dict(zip(names, arguments, strict=False))
        return function(model, weights, dict(zip(inputs, arguments[len(names) :], strict=True)))

    # Twice: TorchScript's functions can be traced, but only then freed of mutations.
    with sparse_contractions(model, function.contraction), averages_as_tensors(model):
        graph = make_fx(flat, tracing_mode="real")(*arguments)
    graph = make_fx(torch.func.functionalize(graph, remove="mutations"))(*arguments)
    graph.graph.eliminate_dead_code()
    _store_what_is_gathered(graph, arguments)
    graph.recompile()
    return graph, arguments


_GATHERS = (
    torch.ops.aten.gather.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_select.default,
)


def _store_what_is_gathered(
    graph: torch.fx.GraphModule, arguments: tuple[torch.Tensor, ...]
) -> None:
    """Have numbers of atoms computed before they are gathered for edges.

    The compiler would compute them where they are read, for each edge anew. It stores what is
    looked at with given strides.
    """
    ShapeProp(graph).propagate(*arguments)
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or node.target not in _GATHERS:
            continue
        source = node.args[0]
        before, after = (n.meta["tensor_meta"].shape.numel() for n in (source, node))
        if source.op != "call_function" or after <= before:
            continue
        shape = source.meta["tensor_meta"].shape
        strides = torch.empty(shape, device="meta").stride()
        with graph.graph.inserting_before(node):
            stored = graph.graph.call_function(
                torch.ops.aten.clone.default,
                (source,),
                {"memory_format": torch.contiguous_format},
            )
            stored = graph.graph.call_function(
                torch.ops.aten.as_strided.default, (stored, list(shape), list(strides))
            )
        node.replace_input_with(source, stored)


@contextmanager
def averages_as_tensors(model: Any) -> Iterator[None]:
    """Have the mean numbers of neighbours as buffers for a while.

    They come from the data: code that has them as constants would be of no use for other data.
    """
    numbers = [float(block.avg_num_neighbors) for block in model.interactions]
    for block, number in zip(model.interactions, numbers, strict=True):
        del block.avg_num_neighbors
        block.register_buffer("avg_num_neighbors", torch.tensor(number))
    try:
        yield
    finally:
        for block, number in zip(model.interactions, numbers, strict=True):
            del block.avg_num_neighbors
            block.avg_num_neighbors = number
