"""Neighbour lists of a batch of structures, reused while no atom has moved far."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.pairs import search
from fhi_al.atoms.structure import BoolArray, IntArray


@dataclass(eq=False)
class Edges:
    """Pairs of atoms, each in both directions.

    Attributes:
        index: (2, edges) sender and receiver; the vector of an edge is
            `positions[receiver] + shift - positions[sender]`.
        unit_shifts: (edges, 3) shift in lattice vectors, float64.
        shifts: (edges, 3) shift in Å, float64.
        ptr: (structures + 1,) where the edges of each structure begin, or None where that was
            not asked for.
    """

    index: torch.Tensor
    unit_shifts: torch.Tensor
    shifts: torch.Tensor
    ptr: IntArray | None = None


class NeighborLists:
    """The edges of one batch as its atoms move.

    Pairs are searched up to `cutoff + skin`, and again for a structure only when its atoms may have
    come closer: when one of them has moved more than half the skin, where what they move along
    with a changing cell doesn't count, but the skin is less what the cell has shrunk. What `edges`
    returns is exact all the same: the pairs within the cutoff at the present positions, in an order
    that doesn't depend on when the search was made.

    Args:
        cutoff: in Å.
        skin: in Å.
    """

    def __init__(self, cutoff: float, skin: float = 0.5) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.n_searches = 0
        self._positions: torch.Tensor | None = None
        self._cells: torch.Tensor | None = None
        self._lists: list[tuple[IntArray, IntArray]] = []
        self._candidates: Edges
        self._shift_cells: torch.Tensor

    def edges(self, batch: Batch) -> Edges:
        """Find the edges within the cutoff; `batch` must always hold the same structures."""
        self.update(batch)
        candidates = self._candidates
        sender, receiver = candidates.index
        vectors = batch.positions[receiver] - batch.positions[sender] + candidates.shifts
        near = ((vectors**2).sum(1) < self.cutoff**2).nonzero()[:, 0]
        assert candidates.ptr is not None
        return Edges(
            index=candidates.index[:, near],
            unit_shifts=candidates.unit_shifts[near],
            shifts=candidates.shifts[near],
            ptr=np.searchsorted(near.cpu().numpy(), candidates.ptr),
        )

    def candidates(self, batch: Batch) -> Edges:
        """Find a set of edges that rarely changes: those within cutoff and skin at the search."""
        self.update(batch)
        return self._candidates

    def update(self, batch: Batch) -> bool:
        """Search again where it is necessary; tell whether it was."""
        if self._positions is None or self._cells is None:
            moved = np.ones(len(batch), dtype=bool)
            self._positions = batch.positions.clone()
            self._cells = batch.cells.clone()
            self._lists = [(np.empty((2, 0), np.int64), np.empty((0, 3), np.int64))] * len(batch)
        else:
            moved = self._moved(batch, self._positions, self._cells)
            if not moved.any():
                self._follow_cells(batch)
                return False
        for i in np.flatnonzero(moved).tolist():
            atoms = batch.atoms(i)
            positions, cell = batch.positions[atoms], batch.cells[i]
            self._positions[atoms], self._cells[i] = positions, cell
            self._lists[i] = search(
                positions.cpu().numpy(), cell.cpu().numpy(), batch.pbc[i], self.cutoff + self.skin
            )
        self.n_searches += int(moved.sum())
        self._candidates = self._concatenate(batch)
        self._shift_cells = batch.cells.clone()
        return True

    def _moved(self, batch: Batch, positions: torch.Tensor, cells: torch.Tensor) -> BoolArray:
        """(structures,) whether a pair may be missing.

        Args:
            batch: as it is now.
            positions: at the last search of each structure.
            cells: likewise.
        """
        skins = torch.full((len(batch),), self.skin, dtype=torch.float64, device=batch.device)
        strained = (batch.cells != cells).any(2).any(1)
        lost = torch.zeros_like(strained)
        if strained.any():
            whole = torch.from_numpy(batch.pbc.all(1)).to(batch.device)
            # A cell without all its vectors may be singular; and nothing here strains one.
            lost = strained & ~whole
            chosen = strained & whole
            deformation = torch.eye(3, dtype=torch.float64, device=batch.device).repeat(
                len(batch), 1, 1
            )
            deformation[chosen] = torch.linalg.solve(cells[chosen], batch.cells[chosen])
            positions = torch.einsum("ai,aij->aj", positions, deformation[batch.structure_index])
            # What was farther than cutoff and skin is still farther than this.
            shrunk = torch.linalg.svdvals(deformation)[:, -1]
            skins = torch.where(chosen, shrunk * (self.cutoff + self.skin) - self.cutoff, skins)
        distances = batch.max(((batch.positions - positions) ** 2).sum(1))
        far = distances > (skins.clamp(min=0.0) / 2) ** 2
        moved: BoolArray = (far | lost | (skins < 0)).cpu().numpy()
        return moved

    def _follow_cells(self, batch: Batch) -> None:
        """Bring the shifts up to date where only cells have changed."""
        if torch.equal(batch.cells, self._shift_cells):
            return
        old = self._candidates
        assert old.ptr is not None
        counts = torch.from_numpy(np.diff(old.ptr)).to(batch.device)
        structure = torch.repeat_interleave(torch.arange(len(batch), device=batch.device), counts)
        shifts = torch.einsum("ei,eij->ej", old.unit_shifts, batch.cells[structure])
        self._candidates = replace(old, shifts=shifts)
        self._shift_cells = batch.cells.clone()

    def _concatenate(self, batch: Batch) -> Edges:
        counts = [index.shape[1] for index, _ in self._lists]
        index = np.concatenate(
            [index + first for (index, _), first in zip(self._lists, batch.ptr[:-1], strict=True)],
            axis=1,
        )
        unit_shifts = torch.tensor(
            np.concatenate([shifts for _, shifts in self._lists]).astype(np.float64),
            device=batch.device,
        )
        structure = torch.tensor(np.repeat(np.arange(len(batch)), counts), device=batch.device)
        return Edges(
            index=torch.tensor(index, device=batch.device),
            unit_shifts=unit_shifts,
            shifts=torch.einsum("ei,eij->ej", unit_shifts, batch.cells[structure]),
            ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )
