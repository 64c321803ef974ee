"""A bias towards structures that the committee disagrees on: hyperactive learning (HAL).

A trajectory moves on `mean E - strength * sd E`, with the standard deviation over the members of
the energy of the structure. So it finds what the models don't know sooner than it would by itself;
it is no sample of any ensemble.

Source: van der Oord, Sachs, Kovács, Ortner, Csányi, npj Comput. Mater. 9, 168 (2023), equations 9
    to 11; there the strength is adapted to the forces, here it is given and the forces are capped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fhi_al.atoms.batch import Batch
from fhi_al.md.driver import Prediction
from fhi_al.md.protocol import MdProtocol


class Bias:
    """The bias of a batch of walkers.

    Args:
        protocols: one a walker, in order.
        device: where the tensors live.
    """

    def __init__(self, protocols: Sequence[MdProtocol], device: torch.device) -> None:
        self.any = any(protocol.bias for protocol in protocols)
        self._strengths = torch.tensor(
            [protocol.bias for protocol in protocols], dtype=torch.float64, device=device
        )
        self._caps = torch.tensor(
            [protocol.max_bias_force for protocol in protocols], dtype=torch.float64, device=device
        )

    def of(self, prediction: Prediction, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What is added to forces and stress.

        A walker's bias is scaled down as a whole where its force on some atom exceeds the cap, so
        that it exerts no total force and no torque.

        Args:
            prediction: of all members.
            batch: the structures.

        Returns:
            (atoms, 3) in eV/Å, and (walkers, 3, 3) in eV/Å^3 or None without stress.
        """
        deviations = prediction.energies - prediction.energies.mean(0)
        spread = deviations.square().mean(0).sqrt()
        # Where all members agree there is no direction to go.
        weights = -self._strengths * deviations / (len(deviations) * spread.clamp(min=1e-12))
        # A deviation's mean over members is zero: the mean force drops out by itself.
        forces = (weights[:, batch.structure_index, None] * prediction.forces).sum(0)
        largest = batch.max(forces.square().sum(1)).sqrt()
        scale = (self._caps / largest.clamp(min=1e-12)).clamp(max=1.0)
        forces *= scale[batch.structure_index, None]
        if prediction.stress is None:
            return forces, None
        stress = (weights[..., None, None] * prediction.stress).sum(0)
        return forces, stress * scale[:, None, None]
