"""Batches of structures taken apart, and what models say about the parts put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from fhi_al.ensemble.padding import Tensors

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""(members, structures) energies in eV, (members, atoms, 3) forces in eV/Å, and, where asked for,
(members, structures, 3, 3) virials in eV."""


def split(inputs: Tensors, size: int) -> Iterator[Tensors]:
    """Deal structures out in their order.

    Args:
        inputs: of a model; edges of one structure come before those of the next.
        size: structures a part, at most.
    """
    count = len(inputs["head"])
    if count <= size:
        yield inputs
        return
    first_atoms = inputs["ptr"].tolist()
    owners = inputs["batch"][inputs["edge_index"][0]]
    structures = torch.arange(count + 1, device=owners.device)
    first_edges = torch.searchsorted(owners, structures).tolist()
    for first in range(0, count, size):
        last = min(first + size, count)
        atoms = slice(first_atoms[first], first_atoms[last])
        edges = slice(first_edges[first], first_edges[last])
        yield {
            "positions": inputs["positions"][atoms],
            "node_attrs": inputs["node_attrs"][atoms],
            "edge_index": inputs["edge_index"][:, edges] - first_atoms[first],
            "shifts": inputs["shifts"][edges],
            "unit_shifts": inputs["unit_shifts"][edges],
            "cell": inputs["cell"][3 * first : 3 * last],
            "batch": inputs["batch"][atoms] - first,
            "ptr": inputs["ptr"][first : last + 1] - first_atoms[first],
            "head": inputs["head"][first:last],
        }


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Outputs for structures of all parts."""
    if len(parts) == 1:
        return parts[0]
    energies, forces, virials = zip(*parts, strict=True)
    return (
        torch.cat(energies, dim=1),
        torch.cat(forces, dim=1),
        None if virials[0] is None else torch.cat(virials, dim=1),
    )
