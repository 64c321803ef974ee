"""Thermostats: what exchanges kinetic energy with a bath, in the middle of each step.

Each acts for one whole time step on the walkers that it has, and on no other walker of the batch.
Friction and noise, or the rescaling, are solved exactly: none has an error of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch
from ase import units

from fhi_al.atoms.structure import FloatArray
from fhi_al.md.protocol import MdProtocol
from fhi_al.md.walker import CHAIN_LENGTH, Walkers


class Thermostat(Protocol):
    """What every entry of `THERMOSTATS` makes."""

    def __init__(
        self, walkers: Walkers, indices: Sequence[int], protocols: Sequence[MdProtocol]
    ) -> None:
        """Prepare.

        Args:
            walkers: the whole batch.
            indices: of the walkers that it acts on.
            protocols: of these, in the same order.
        """

    def act(self, walkers: Walkers) -> None:
        """Change momenta, in place, as in one time step at the present `temperatures`."""


class Langevin:
    """Friction and noise (an Ornstein-Uhlenbeck process).

    With the drifts and kicks around it this is the BAOAB splitting.

    Source: Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34 (2013);
        J. Chem. Phys. 138, 174102 (2013).
    """

    def __init__(
        self, walkers: Walkers, indices: Sequence[int], protocols: Sequence[MdProtocol]
    ) -> None:
        rates = np.zeros(len(walkers))
        rates[list(indices)] = [p.timestep_fs * p.friction_per_fs for p in protocols]
        self._indices = indices
        # 1 - decay^2, without the rounding of a difference.
        self._decay = _per_atom(walkers, np.exp(-rates))
        self._gain = _per_atom(walkers, np.sqrt(-np.expm1(-2 * rates)))
        self._temperatures: FloatArray | None = None

    def act(self, walkers: Walkers) -> None:
        """Damp momenta, and add noise from each walker's own generator."""
        if self._temperatures is None or (walkers.temperatures != self._temperatures).any():
            self._temperatures = walkers.temperatures.copy()
            energies = _per_atom(walkers, units.kB * self._temperatures)
            self._width = self._gain * torch.sqrt(walkers.masses[:, None] * energies)
        noise = walkers.noise(self._indices)
        walkers.momenta.mul_(self._decay).add_(noise.mul_(self._width))
        walkers.constrain(walkers.momenta)


class Bussi:
    """Velocities rescaled so that the kinetic energy follows its canonical process.

    Source: Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), equations A7 and A8.
    """

    def __init__(
        self, walkers: Walkers, indices: Sequence[int], protocols: Sequence[MdProtocol]
    ) -> None:
        self._indices = list(indices)
        self._degrees = walkers.degrees_of_freedom()[self._indices]
        self._decay = np.array([np.exp(-p.timestep_fs / p.thermostat_time_fs) for p in protocols])

    def act(self, walkers: Walkers) -> None:
        """Rescale the momenta of each walker by one number."""
        kinetic = walkers.kinetic_energies().cpu().numpy()[self._indices]
        normal, squares = np.empty(len(kinetic)), np.empty(len(kinetic))
        for i, index in enumerate(self._indices):
            random = walkers.generators[index]
            normal[i] = random.standard_normal()
            # The sum of the squares of as many normal deviates as there are other modes.
            squares[i] = random.chisquare(max(self._degrees[i] - 1, 1e-9))
        target = units.kB * walkers.temperatures[self._indices] / 2
        moving = kinetic > 0
        ratio = np.divide(target, kinetic, out=np.zeros_like(kinetic), where=moving)
        ratio *= 1 - self._decay
        first = np.sqrt(self._decay) + np.sqrt(ratio) * normal
        factors = np.ones(len(walkers))
        factors[self._indices] = np.where(
            moving, np.copysign(np.sqrt(first**2 + ratio * squares), first), 1.0
        )
        walkers.momenta.mul_(_per_atom(walkers, factors))


class NoseHooverChain:
    """A chain of thermostats, each holding the temperature of the one before.

    Their positions and velocities are part of the walkers (`Walkers.chains`). The masses follow
    from `thermostat_time_fs`: the first is `degrees * kB T tau^2`, the others `kB T tau^2`.

    Source: Martyna, Klein, Tuckerman, J. Chem. Phys. 97, 2635 (1992); the integrator with
        the fourth-order weights of Suzuki and Yoshida: Martyna, Tuckerman, Tobias, Klein,
        Mol. Phys. 87, 1117 (1996).
    """

    _CUBE_ROOT: ClassVar[float] = 2 ** (1 / 3)
    WEIGHTS: ClassVar[tuple[float, ...]] = (
        1 / (2 - _CUBE_ROOT),
        -_CUBE_ROOT / (2 - _CUBE_ROOT),
        1 / (2 - _CUBE_ROOT),
    )

    def __init__(
        self, walkers: Walkers, indices: Sequence[int], protocols: Sequence[MdProtocol]
    ) -> None:
        self._indices = list(indices)
        self._degrees = walkers.degrees_of_freedom()[self._indices]
        self._timesteps = np.array([p.timestep_fs * units.fs for p in protocols])
        self._times = np.array([p.thermostat_time_fs * units.fs for p in protocols])

    def act(self, walkers: Walkers) -> None:
        """Propagate the chains and rescale the momenta of each walker."""
        energies = units.kB * walkers.temperatures[self._indices]
        masses = np.repeat((energies * self._times**2)[:, None], CHAIN_LENGTH, axis=1)
        masses[:, 0] *= self._degrees
        twice_kinetic = 2 * walkers.kinetic_energies().cpu().numpy()[self._indices]
        chain = walkers.chains[self._indices]
        positions, velocities = chain[:, 0], chain[:, 1]
        scale = np.ones(len(energies))

        def accelerate(link: int, time: FloatArray) -> None:
            if link == 0:
                force = twice_kinetic * scale**2 - self._degrees * energies
            else:
                force = masses[:, link - 1] * velocities[:, link - 1] ** 2 - energies
            velocities[:, link] += force / masses[:, link] * time

        def drag(link: int, time: FloatArray) -> None:
            if link + 1 < CHAIN_LENGTH:
                velocities[:, link] *= np.exp(-velocities[:, link + 1] * time)

        for weight in self.WEIGHTS:
            time = weight * self._timesteps
            for link in reversed(range(CHAIN_LENGTH)):
                drag(link, time / 4)
                accelerate(link, time / 2)
                drag(link, time / 4)
            scale *= np.exp(-velocities[:, 0] * time)
            positions += velocities * time[:, None]
            for link in range(CHAIN_LENGTH):
                drag(link, time / 4)
                accelerate(link, time / 2)
                drag(link, time / 4)
        walkers.chains[self._indices] = chain
        factors = np.ones(len(walkers))
        factors[self._indices] = scale
        walkers.momenta.mul_(_per_atom(walkers, factors))


def _per_atom(walkers: Walkers, values: FloatArray) -> torch.Tensor:
    """(atoms, 1) from (walkers,)."""
    index = walkers.batch.structure_index
    return torch.from_numpy(values).to(index.device)[index, None]


THERMOSTATS: dict[str, type[Thermostat]] = {
    "langevin": Langevin,
    "bussi": Bussi,
    "nhc": NoseHooverChain,
}
"""Ways to hold the temperature. Langevin dynamics alone doesn't conserve the total momentum."""
