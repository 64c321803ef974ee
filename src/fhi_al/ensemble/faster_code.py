"""Faster code for a committee, as the settings want it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fhi_al.ensemble import fast_gradients
from fhi_al.ensemble.fast_gradients import FastGradients
from fhi_al.ensemble.fast_validation import FastValidation
from fhi_al.fast import code
from fhi_al.fast.forces import FastForces
from fhi_al.settings import Inputs


@dataclass(frozen=True)
class FasterCode:
    """What makes faster code, and uses it; None where the models themselves are asked.

    Attributes:
        forces: of the committee, for molecular dynamics.
        gradients: of the loss, for training.
        validation: asks the code of molecular dynamics.
    """

    forces: FastForces | None = None
    gradients: FastGradients | None = None
    validation: FastValidation | None = None


def faster_code(
    inputs: Inputs, device: str, *, ranks: int = 1, is_peer: bool = False
) -> FasterCode:
    """Have what makes faster code.

    Args:
        inputs: with the settings.
        device: where the models live, as torch names it.
        ranks: that share the trajectories.
        is_peer: whether this is not the first of them.
    """
    if inputs.eager:
        return FasterCode()
    insist = inputs.mace.misc.evaluation == "fast"
    # One rank compiles; the others wait longer, and find the code in the cache, if they are of its
    # size.
    waiting = 20 if is_peer else 0 if insist else 1
    forces = FastForces(
        math.ceil(inputs.al.active_learning.num_trajectories / ranks),
        waiting * code.PATIENCE_SECONDS,
        insist=insist,
    )
    if device != "cpu":
        # Training is compiled for processors only, and validation knows no converted models.
        return FasterCode(forces)
    gradients = FastGradients(waiting * fast_gradients.PATIENCE_SECONDS, insist=insist)
    return FasterCode(forces, gradients, FastValidation(forces))
