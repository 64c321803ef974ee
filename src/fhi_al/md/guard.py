"""When molecular dynamics has left what any force field can be trusted with."""

from __future__ import annotations

import torch

from fhi_al.md.walker import Walkers
from fhi_al.structure import BoolArray

MAX_FORCE = 500.0
"""eV/Å; a bond compressed to half its length is about 100."""

MAX_TEMPERATURE_FACTOR = 20.0
MAX_TEMPERATURE_OFFSET = 5000.0
"""K; so that a few atoms at low temperature may fluctuate, and react."""


def broken(walkers: Walkers, forces: torch.Tensor) -> BoolArray:
    """Tell which walkers have exploded.

    Args:
        walkers: as they are now.
        forces: (members, atoms, 3) there, in eV/Å.

    Returns:
        (walkers,) True where a force, a position or a momentum is not finite, a force is larger
        than `MAX_FORCE`, or the kinetic temperature is absurd.
    """
    largest = forces.abs().amax(dim=(0, 2)) + 0.0 * walkers.positions.sum(1)
    # Comparisons with NaN are false; scatter keeps NaN.
    sane = walkers.batch.max(largest) < MAX_FORCE
    limit = MAX_TEMPERATURE_FACTOR * walkers.temperatures + MAX_TEMPERATURE_OFFSET
    result: BoolArray = ~(sane.cpu().numpy() & (walkers.kinetic_temperatures() < limit))
    return result
