"""Batches of structures filled up to sizes that change rarely, as compiled code needs them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

Tensors = dict[str, torch.Tensor]

INPUTS = (
    "positions",
    "node_attrs",
    "edge_index",
    "shifts",
    "unit_shifts",
    "cell",
    "batch",
    "ptr",
    "head",
)
"""What a MACE model takes."""


@dataclass(frozen=True)
class PaddedShape:
    """Sizes that compiled code is made for, padding included.

    Attributes:
        structures: one more than there can be.
        atoms: two more than there can be, at least.
        edges: as many as there can be.
    """

    structures: int
    atoms: int
    edges: int

    @classmethod
    def with_room(cls, inputs: Mapping[str, torch.Tensor], expected: int) -> PaddedShape:
        """Make a shape for inputs like these.

        Args:
            inputs: of a model.
            expected: structures that there will often be.
        """
        structures, atoms, edges = _sizes(inputs)
        scale = max(1.0, expected / structures)
        return cls(
            structures=max(structures, expected) + 1,
            atoms=math.ceil(scale * atoms) + 2,
            edges=_round_up(1.1 * scale * edges),
        )

    @classmethod
    def of_largest(cls, atoms: Sequence[int], edges: Sequence[int], count: int) -> PaddedShape:
        """Make a shape for any batch out of a dataset.

        Args:
            atoms: of each structure.
            edges: of each structure.
            count: structures a batch; there may be fewer structures as yet.
        """
        return cls(
            structures=count + 1,
            atoms=_most(atoms, count) + 2,
            # Some room for the structures that are yet to come.
            edges=_round_up(1.05 * _most(edges, count)),
        )

    def holds(self, inputs: Mapping[str, torch.Tensor]) -> bool:
        """Whether inputs fit."""
        structures, atoms, edges = _sizes(inputs)
        empty = self.structures - structures - 1
        return empty >= 0 and atoms + empty + 2 <= self.atoms and edges <= self.edges

    def union(self, other: PaddedShape) -> PaddedShape:
        """The smallest shape that holds what either of two holds."""
        return PaddedShape(
            max(self.structures, other.structures),
            max(self.atoms, other.atoms),
            max(self.edges, other.edges),
        )


def _most(sizes: Sequence[int], count: int) -> int:
    """Sum of the `count` largest; where there are fewer, more of the largest come."""
    chosen = sorted(sizes)[-count:]
    return sum(chosen) + (count - len(chosen)) * chosen[-1]


def _sizes(inputs: Mapping[str, torch.Tensor]) -> tuple[int, int, int]:
    return len(inputs["head"]), len(inputs["positions"]), inputs["edge_index"].shape[1]


def _round_up(number: float) -> int:
    """To three binary digits, so that similar systems share compiled code."""
    unit = 1 << max(0, math.floor(math.log2(max(number, 1))) - 2)
    return math.ceil(number / unit) * unit


def pad(inputs: Mapping[str, torch.Tensor], shape: PaddedShape, cutoff: float) -> Tensors:
    """Fill inputs of a model up to a shape with structures that no other one feels.

    Each has one atom, the last one all that are left. Its last two atoms carry all surplus edges;
    they are twice the cutoff apart: an edge without length has no gradient. So nothing is asked of
    the model about edges beyond its cutoff.

    Args:
        inputs: of a model.
        shape: that holds them.
        cutoff: of the model, in Å.
    """
    structures, atoms, edges = _sizes(inputs)
    empty = shape.structures - structures
    positions = inputs["positions"].new_zeros((shape.atoms - atoms, 3))
    positions[-1, 0] = 2 * cutoff
    species = inputs["node_attrs"].new_zeros((shape.atoms - atoms, inputs["node_attrs"].shape[1]))
    species[:, 0] = 1.0
    surplus = inputs["edge_index"].new_empty((2, shape.edges - edges))
    surplus[0], surplus[1] = shape.atoms - 2, shape.atoms - 1
    owner = inputs["batch"].new_full((shape.atoms - atoms,), shape.structures - 1)
    owner[: empty - 1] = torch.arange(structures, shape.structures - 1, device=owner.device)
    ends = inputs["ptr"].new_full((empty,), shape.atoms)
    ends[:-1] = torch.arange(atoms + 1, atoms + empty, device=ends.device)
    cells = torch.eye(3, dtype=positions.dtype, device=positions.device).repeat(empty, 1)
    return {
        "positions": torch.cat([inputs["positions"], positions]),
        "node_attrs": torch.cat([inputs["node_attrs"], species]),
        "edge_index": torch.cat([inputs["edge_index"], surplus], dim=1),
        "shifts": fill(inputs["shifts"], shape.edges),
        "unit_shifts": fill(inputs["unit_shifts"], shape.edges),
        "cell": torch.cat([inputs["cell"], cells]),
        "batch": torch.cat([inputs["batch"], owner]),
        "ptr": torch.cat([inputs["ptr"], ends]),
        "head": inputs["head"][:1].repeat(shape.structures),
    }


def fill(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Lengthen a tensor with zeros."""
    return torch.cat([tensor, tensor.new_zeros((length - len(tensor), *tensor.shape[1:]))])
