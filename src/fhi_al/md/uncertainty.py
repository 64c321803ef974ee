"""How much the members of a committee disagree."""

from __future__ import annotations

from typing import Protocol

import torch

from fhi_al.atoms.batch import Batch


def atomic_sd(forces: torch.Tensor) -> torch.Tensor:
    """Spread of the members' forces on each atom.

    `s_i = sqrt( 1/(3M) sum_m sum_xyz (F_mi - mean_m F_i)^2 )`

    Args:
        forces: (members, atoms, 3) in eV/Å.

    Returns:
        (atoms,) in eV/Å; DP-GEN's deviation is sqrt(3) times this one.
    """
    return forces.var(dim=0, correction=0).mean(dim=1).sqrt()


def max_atomic_sd(
    forces: torch.Tensor, batch: Batch, mobile: torch.Tensor, stress: torch.Tensor | None = None
) -> torch.Tensor:
    """Spread of the force on the atom where it is largest."""
    return batch.max(atomic_sd(forces) * mobile)


def mean_atomic_sd(
    forces: torch.Tensor, batch: Batch, mobile: torch.Tensor, stress: torch.Tensor | None = None
) -> torch.Tensor:
    """Spread of the force, mean over atoms."""
    weights = mobile.to(forces.dtype)
    return batch.sum(atomic_sd(forces) * weights) / batch.sum(weights).clamp(min=1)


def max_atomic_sd_stress(
    forces: torch.Tensor, batch: Batch, mobile: torch.Tensor, stress: torch.Tensor | None = None
) -> torch.Tensor:
    """The larger of `max_atomic_sd` and the spread of the stress, made a force.

    The stress, per component, pulls at the face of the cube that an atom takes up on average:
    `(V / N)^(2/3) sqrt( 1/(9M) sum_m sum_ab (sigma_mab - mean_m sigma_ab)^2 )`.
    """
    largest = max_atomic_sd(forces, batch, mobile)
    if stress is None:
        return largest
    spread = stress.var(dim=0, correction=0).mean(dim=(1, 2)).sqrt()
    volumes = torch.linalg.det(batch.cells).abs()
    areas = (volumes / batch.sum(torch.ones_like(mobile, dtype=spread.dtype))) ** (2 / 3)
    return torch.maximum(largest, areas * spread)


class Uncertainty(Protocol):
    """What every entry of `UNCERTAINTIES` is."""

    def __call__(
        self,
        forces: torch.Tensor,
        batch: Batch,
        mobile: torch.Tensor,
        stress: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Measure how much the members disagree.

        Args:
            forces: (members, atoms, 3) in eV/Å.
            batch: the structures.
            mobile: (atoms,) whether each moves; fixed atoms don't count.
            stress: (members, structures, 3, 3) in eV/Å^3, zeros without a cell; None: not known.

        Returns:
            (structures,) in eV/Å.
        """


UNCERTAINTIES: dict[str, Uncertainty] = {
    "max_atomic_sd": max_atomic_sd,
    "mean_atomic_sd": mean_atomic_sd,
    "max_atomic_sd_stress": max_atomic_sd_stress,
}

NEED_STRESS = frozenset({"max_atomic_sd_stress"})
"""Those that the members' stress is computed for."""
