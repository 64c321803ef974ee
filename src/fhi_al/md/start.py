"""Trajectories at their beginning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase.data import atomic_masses

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import FloatArray, Structure
from fhi_al.md.protocol import MdProtocol
from fhi_al.md.thermostats import THERMOSTATS
from fhi_al.md.walker import CHAIN_LENGTH, Walkers, generator


def start_walkers(
    structures: Sequence[Structure],
    trajectories: Sequence[int],
    protocols: Sequence[MdProtocol],
    *,
    stream: str = "active_learning",
    velocities: Sequence[FloatArray | None] | None = None,
    device: torch.device | str = "cpu",
) -> Walkers:
    """Begin trajectories with velocities from the Maxwell-Boltzmann distribution.

    The centre of mass is at rest, exactly, where nothing would move it: in free molecules,
    and everywhere when the protocol conserves momentum; never where atoms are fixed.
    Nothing else is taken from the canonical distribution: kinetic energies fluctuate.

    Args:
        structures: where each walker begins.
        trajectories: number of each.
        protocols: how each is to move.
        stream: what the trajectories are for; see `generator`.
        velocities: (atoms, 3) in Å/fs for each walker; None: to be drawn.
        device: where the tensors live.
    """
    batch = Batch.from_structures(structures, device)
    fixed = [structure.fixed for structure in structures]
    walkers = Walkers(
        batch=batch,
        structures=list(structures),
        trajectories=np.array(trajectories, dtype=np.int64),
        steps=np.zeros(len(structures), dtype=np.int64),
        momenta=torch.zeros_like(batch.positions),
        masses=torch.tensor(atomic_masses[batch.numbers.cpu().numpy()], device=device),
        fixed=torch.tensor(np.concatenate(fixed), device=device),
        temperatures=np.array([protocol.initial_temperature_K for protocol in protocols]),
        pressures=np.array([protocol.pressure.start for protocol in protocols]),
        chains=np.zeros((len(structures), 2, CHAIN_LENGTH)),
        at_rest=np.array(
            [
                (_conserves_momentum(protocol) or not structure.periodic) and not mask.any()
                for structure, mask, protocol in zip(structures, fixed, protocols, strict=True)
            ]
        ),
        half_stepped=False,
        generators=[
            generator(protocol.seed, stream, trajectory)
            for protocol, trajectory in zip(protocols, trajectories, strict=True)
        ],
    )
    given = velocities or [None] * len(structures)
    for index, velocity in enumerate(given):
        walkers.set_velocities(index, velocity)
    walkers.temperatures[:] = [protocol.temperature.start for protocol in protocols]
    return walkers


def _conserves_momentum(protocol: MdProtocol) -> bool:
    """Whether the total momentum stays as it is without outer forces."""
    return protocol.ensemble == "nve" or THERMOSTATS[protocol.thermostat].conserves_momentum
