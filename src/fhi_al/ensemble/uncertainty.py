"""How much the members of a committee disagree."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fhi_al.md.batch import Batch


def atomic_sd(forces: torch.Tensor) -> torch.Tensor:
    """Spread of the members' forces on each atom.

    `s_i = sqrt( 1/(3M) sum_m sum_xyz (F_mi - mean_m F_i)^2 )`

    Args:
        forces: (members, atoms, 3) in eV/Å.

    Returns:
        (atoms,) in eV/Å; DP-GEN's deviation is sqrt(3) times this one.
    """
    return forces.var(dim=0, correction=0).mean(dim=1).sqrt()


def max_atomic_sd(forces: torch.Tensor, batch: Batch, mobile: torch.Tensor) -> torch.Tensor:
    """Spread of the force on the atom where it is largest."""
    return batch.max(atomic_sd(forces) * mobile)


def mean_atomic_sd(forces: torch.Tensor, batch: Batch, mobile: torch.Tensor) -> torch.Tensor:
    """Spread of the force, mean over atoms."""
    weights = mobile.to(forces.dtype)
    return batch.sum(atomic_sd(forces) * weights) / batch.sum(weights).clamp(min=1)


Uncertainty = Callable[[torch.Tensor, Batch, torch.Tensor], torch.Tensor]
"""From (members, atoms, 3) forces in eV/Å, their structures, and (atoms,) whether each atom moves
(fixed ones are left out), to (structures,) in eV/Å."""

UNCERTAINTIES: dict[str, Uncertainty] = {
    "max_atomic_sd": max_atomic_sd,
    "mean_atomic_sd": mean_atomic_sd,
}
