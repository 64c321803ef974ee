"""Whatever gives energies and forces to molecular dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.neighbors import NeighborLists


@dataclass(eq=False)
class Prediction:
    """What the members say about a batch of structures; float64 whatever the model.

    Attributes:
        energies: (members, structures) in eV.
        forces: (members, atoms, 3) in eV/Å.
        stress: (members, structures, 3, 3) in eV/Å^3, ASE's sign; zeros for a structure without
            a cell; None unless asked for.
    """

    energies: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None = None


class Driver(Protocol):
    """Whatever gives forces to molecular dynamics.

    Attributes:
        device: where the tensors are wanted.
    """

    device: torch.device

    @property
    def path(self) -> str:
        """How forces were computed the last time, for the log."""

    def neighbor_lists(self) -> NeighborLists | None:
        """Make lists to be handed to `predict` while the same structures move."""

    def predict(
        self,
        batch: Batch,
        lists: NeighborLists | None = None,
        *,
        stress: bool = False,
        only_first: bool = False,
    ) -> Prediction:
        """Compute energies and forces of all structures, and stress if wanted.

        Args:
            batch: the structures.
            lists: from `neighbor_lists`, used for this batch only; None: search now.
            stress: whether to compute it.
            only_first: ask the first member only.
        """
