"""Batches of structures taken apart, and what models say about the parts put together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence

import torch

from fhi_al.fast.padding import Tensors

log = logging.getLogger(__name__)

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""(members, structures) energies in eV, (members, atoms, 3) forces in eV/Å, and, where asked for,
(members, structures, 3, 3) virials in eV."""


class MemoryLimit:
    """How many structures at a time a device has memory for: found out by trying.

    Args:
        device: with the memory.
        at_most: structures that are tried; by default any number.

    Attributes:
        at_most: structures to try.
    """

    def __init__(self, device: torch.device, at_most: int = sys.maxsize) -> None:
        self.at_most = at_most
        self._device = device

    def shrink(self, tried: int) -> bool:
        """Halve it, as so many structures did not fit; whether that can be done."""
        size = min(tried, self.at_most)
        if size == 1:
            return False
        self.at_most = (size + 1) // 2
        torch.cuda.empty_cache()
        log.info(
            "%d structures at a time don't fit into the memory of %s: %d from now on",
            size,
            self._device,
            self.at_most,
        )
        return True


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


def joined_outputs(parts: Sequence[Outputs]) -> Outputs:
    """Outputs for structures of all parts."""
    if len(parts) == 1:
        return parts[0]
    energies, forces, virials = zip(*parts, strict=True)
    return (
        torch.cat(energies, dim=1),
        torch.cat(forces, dim=1),
        None if virials[0] is None else torch.cat(virials, dim=1),
    )
