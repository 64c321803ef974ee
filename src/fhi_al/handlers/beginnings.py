"""How trajectories begin and move, and what guards them, as the settings say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from fhi_al.md.guard import Guard
from fhi_al.md.protocol import MdProtocol, Ramp
from fhi_al.md.start import start_walkers
from fhi_al.md.walker import Walkers

if TYPE_CHECKING:
    from fhi_al.settings import Inputs


def guard_of(inputs: Inputs, trajectories: Iterable[int]) -> Guard:
    """What says when one of these trajectories has broken down."""
    dealt = [inputs.trajectories[trajectory] for trajectory in trajectories]
    return Guard(
        [inputs.al.md[trajectory.section].limits for trajectory in dealt],
        [inputs.geometries[trajectory.geometry].structure for trajectory in dealt],
    )


def sampling_protocol(inputs: Inputs, geometry: int) -> MdProtocol:
    """How initial structures are sampled: as the first trajectory moves, at its first conditions.

    Ramps and bias are for active learning.
    """
    protocol = inputs.trajectories[geometry].protocol
    return replace(
        protocol,
        temperature=Ramp.constant(protocol.temperature.start),
        pressure=Ramp.constant(protocol.pressure.start),
        bias=0.0,
    )


def start_learning(inputs: Inputs, device: torch.device | str) -> Walkers:
    """Begin the trajectories of active learning; the first of each geometry as it moves there."""
    dealt = inputs.trajectories[: inputs.al.active_learning.num_trajectories]
    geometries = [inputs.geometries[trajectory.geometry] for trajectory in dealt]
    return start_walkers(
        [geometry.structure for geometry in geometries],
        range(len(dealt)),
        [trajectory.protocol for trajectory in dealt],
        velocities=[
            geometry.velocities if trajectory.velocities else None
            for geometry, trajectory in zip(geometries, dealt, strict=True)
        ],
        device=device,
    )


def start_sampling(
    inputs: Inputs, geometries: Sequence[int], stream: str, device: torch.device | str
) -> Walkers:
    """Begin one trajectory at each of these geometries, for the initial dataset."""
    return start_walkers(
        [inputs.geometries[geometry].structure for geometry in geometries],
        geometries,
        [sampling_protocol(inputs, geometry) for geometry in geometries],
        stream=stream,
        velocities=[inputs.geometries[geometry].velocities for geometry in geometries],
        device=device,
    )
