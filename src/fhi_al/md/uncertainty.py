"""How much the members of a committee disagree.

Importing this imports no torch: settings and reports read what stands in `UNCERTAINTIES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fhi_al.record.registry import Choice, Registry

if TYPE_CHECKING:
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
    volumes = batch.cells.det().abs()
    areas = (volumes / batch.sum(spread.new_ones(len(mobile)))) ** (2 / 3)
    return largest.maximum(areas * spread)


class Uncertainty(Protocol):
    """What the function of every entry of `UNCERTAINTIES` is."""

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


UNCERTAINTIES = Registry[Choice[Uncertainty]](
    "an uncertainty",
    {
        "max_atomic_sd": Choice(
            max_atomic_sd,
            "the largest standard deviation, over the members, of the force on an atom",
            needs=frozenset({"members"}),
        ),
        "mean_atomic_sd": Choice(
            mean_atomic_sd,
            "the mean over atoms of the standard deviation, over the members, of the force on an "
            "atom",
            needs=frozenset({"members"}),
        ),
        "max_atomic_sd_stress": Choice(
            max_atomic_sd_stress,
            "the largest standard deviation, over the members, of the force on an atom or, if "
            "larger, of the stress in units of a force",
            needs=frozenset({"members", "stress"}),
        ),
    },
)
"""Uncertainties of a structure, in eV/Å; `ACTIVE_LEARNING.uncertainty` chooses one.

Where one needs stress, the members' stress is computed for it at each check.
"""
