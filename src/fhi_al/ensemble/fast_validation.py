"""Validation by the compiled code of molecular dynamics, once that is in use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from fhi_al.ensemble.member import Member
from fhi_al.fast.code import EagerComparison, allowed_error
from fhi_al.fast.forces import FastForces
from fhi_al.fast.padding import INPUTS
from fhi_al.fast.tracing import tensors_of

log = logging.getLogger(__name__)

ModelOutput = dict[str, torch.Tensor | None]
"""What a MACE model returns, or as much of it as validation needs."""


class FastValidation:
    """Predicts energies and forces of labels, with the averaged weights of a member.

    Nothing is compiled for this: validation is rare, and knows the structures of the same systems
    as molecular dynamics.

    Args:
        forces: of molecular dynamics; holds the code.
    """

    def __init__(self, forces: FastForces) -> None:
        self._forces = forces
        self._trust = EagerComparison()

    def doubt(self) -> None:
        """Compare the code with the model again before it is used."""
        self._trust.doubt()

    def predict(self, member: Member, batch: Any, eager: Callable[[], ModelOutput]) -> ModelOutput:
        """Predict for a batch of MACE's loader, by code if there is some.

        Args:
            member: whose averaged weights count.
            batch: of labels.
            eager: predicts the same with the model itself.
        """
        if self._trust.lost or not (self._trust.due or self._trust.given):
            return eager()
        weights = tensors_of(member.model, member.averaged())
        found = self._forces.evaluate_one(weights, {name: batch[name] for name in INPUTS})
        if found is None:
            return eager()
        energies, forces = found
        if self._trust.due:
            exact = eager()
            for name, ours in (("energy", energies), ("forces", forces)):
                true = exact[name]
                assert true is not None
                error = float((ours - true).detach().abs().max())
                if not error <= allowed_error(true.detach().abs().max(), true.dtype):
                    self._trust.compared(False)
                    if self._trust.lost:
                        log.warning("validation stays eager: compiled code is off by %.1e", error)
                    return exact
            self._trust.compared(True)
        return {"energy": energies, "forces": forces}
