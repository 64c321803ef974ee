"""Integrators: from forces to the next positions and momenta, for all walkers at once.

A step is split where the forces are needed: `begin` moves the walkers to their new positions,
`finish` takes the forces there. So a step may lie in two processes, or days apart, when a
reference calculation gives the forces.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from ase import units

from fhi_al.md.walker import Walkers


class Integrator(Protocol):
    """What every entry of `INTEGRATORS` makes.

    Attributes:
        conserves_momentum: whether the total momentum stays as it is without outer forces.
    """

    conserves_momentum: bool

    def __init__(self, timestep_fs: float, friction_per_fs: float) -> None: ...

    def begin(self, walkers: Walkers, forces: torch.Tensor) -> None:
        """Move to the positions of the next step.

        Args:
            walkers: changed in place.
            forces: (atoms, 3) at the present positions, in eV/Å.
        """

    def finish(self, walkers: Walkers, forces: torch.Tensor) -> None:
        """Complete the step.

        Args:
            walkers: changed in place.
            forces: (atoms, 3) at the positions that `begin` moved to, in eV/Å.
        """


class VelocityVerlet:
    """Constant energy.

    Args:
        timestep_fs: in fs.
        friction_per_fs: has no meaning here.

    Source: Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637 (1982).
    """

    conserves_momentum = True

    def __init__(self, timestep_fs: float, friction_per_fs: float = 0.0) -> None:
        self.timestep = timestep_fs * units.fs

    def begin(self, walkers: Walkers, forces: torch.Tensor) -> None:
        """Half a kick, a drift."""
        _kick(walkers, forces, self.timestep / 2)
        _drift(walkers, self.timestep)

    def finish(self, walkers: Walkers, forces: torch.Tensor) -> None:
        """The other half of the kick."""
        _kick(walkers, forces, self.timestep / 2)


class Langevin:
    """Constant temperature by friction and noise: the BAOAB splitting.

    Kick, half a drift, friction and noise (solved exactly), half a drift, kick. Averages over
    positions have the smallest error of all such splittings.

    Args:
        timestep_fs: in fs.
        friction_per_fs: in 1/fs.

    Source: Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34 (2013);
        J. Chem. Phys. 138, 174102 (2013).
    """

    conserves_momentum = False

    def __init__(self, timestep_fs: float, friction_per_fs: float) -> None:
        self.timestep = timestep_fs * units.fs
        self.decay = math.exp(-timestep_fs * friction_per_fs)
        # 1 - decay^2, without the rounding of a difference.
        self.gain = math.sqrt(-math.expm1(-2 * timestep_fs * friction_per_fs))

    def begin(self, walkers: Walkers, forces: torch.Tensor) -> None:
        """B A O A."""
        _kick(walkers, forces, self.timestep / 2)
        _drift(walkers, self.timestep / 2)
        energies = torch.from_numpy(units.kB * walkers.temperatures).to(forces.device)
        thermal = torch.sqrt(walkers.masses * energies[walkers.batch.structure_index])
        noise = walkers.noise() * thermal[:, None]
        walkers.momenta.mul_(self.decay).add_(noise, alpha=self.gain)
        walkers.constrain(walkers.momenta)
        _drift(walkers, self.timestep / 2)

    def finish(self, walkers: Walkers, forces: torch.Tensor) -> None:
        """The last B."""
        _kick(walkers, forces, self.timestep / 2)


def _kick(walkers: Walkers, forces: torch.Tensor, time: float) -> None:
    walkers.momenta.add_(forces, alpha=time)
    walkers.constrain(walkers.momenta)


def _drift(walkers: Walkers, time: float) -> None:
    walkers.positions.addcdiv_(walkers.momenta, walkers.masses[:, None], value=time)


INTEGRATORS: dict[str, type[Integrator]] = {"nve": VelocityVerlet, "langevin": Langevin}
