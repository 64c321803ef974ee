"""Several structures in concatenated arrays, as models and integrators want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fhi_al.atoms.structure import BoolArray, IntArray, Structure


@dataclass(eq=False)
class Batch:
    """Structures of any sizes, compositions and cells, one after the other.

    Positions and cells may be changed in place, the rest not.

    Attributes:
        numbers: (atoms,) atomic numbers.
        positions: (atoms, 3) in Å, float64.
        cells: (structures, 3, 3) lattice vectors as rows in Å, float64; zeros without a cell.
        pbc: (structures, 3) periodic along each lattice vector.
        ptr: (structures + 1,) structure `i` has the atoms `ptr[i]` to `ptr[i + 1] - 1`.
        structure_index: (atoms,) the structure of each atom.
    """

    numbers: torch.Tensor
    positions: torch.Tensor
    cells: torch.Tensor
    pbc: BoolArray
    ptr: IntArray
    structure_index: torch.Tensor

    def __len__(self) -> int:
        return len(self.pbc)

    @property
    def n_atoms(self) -> int:
        """Atoms in all structures."""
        return int(self.ptr[-1])

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.positions.device

    @classmethod
    def from_structures(
        cls, structures: Sequence[Structure], device: torch.device | str = "cpu"
    ) -> Batch:
        """Put structures one after the other."""
        sizes = [len(structure) for structure in structures]
        return cls(
            numbers=torch.tensor(
                np.concatenate([structure.numbers for structure in structures]), device=device
            ),
            positions=torch.tensor(
                np.concatenate([structure.positions for structure in structures]), device=device
            ),
            cells=torch.tensor(
                np.stack([structure.cell for structure in structures]), device=device
            ),
            pbc=np.stack([structure.pbc for structure in structures]),
            ptr=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            structure_index=torch.tensor(np.repeat(np.arange(len(sizes)), sizes), device=device),
        )

    def atoms(self, index: int) -> slice:
        """The atoms of one structure."""
        return slice(int(self.ptr[index]), int(self.ptr[index + 1]))

    def part(self, first: int, last: int) -> Batch:
        """Structures `first` to `last - 1` as a batch; positions and cells are views."""
        ptr = self.ptr[first : last + 1]
        atoms = slice(int(ptr[0]), int(ptr[-1]))
        return Batch(
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            cells=self.cells[first:last],
            pbc=self.pbc[first:last],
            ptr=ptr - ptr[0],
            structure_index=self.structure_index[atoms] - first,
        )

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum values of atoms over each structure: (atoms, ...) to (structures, ...)."""
        total = values.new_zeros((len(self), *values.shape[1:]))
        return total.index_add_(0, self.structure_index, values)

    def max(self, values: torch.Tensor) -> torch.Tensor:
        """Largest value of each structure: (atoms,) to (structures,); values not negative."""
        largest = values.new_zeros(len(self))
        return largest.scatter_reduce_(0, self.structure_index, values, "amax")
