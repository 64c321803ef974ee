"""Thermostats: what exchanges kinetic energy with a bath, in the middle of each step.

Each acts for one whole time step on the walkers that it has, and on no other walker of the batch.
Friction and noise, or the rescaling, are solved exactly: none has an error of its own.

Importing this imports neither torch nor ASE, which methods do where they need them: settings and
reports read what stands in `THERMOSTATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from fhi_al.record.registry import Choice, Citation, Registry

if TYPE_CHECKING:
    import torch

    from fhi_al.atoms.structure import FloatArray
    from fhi_al.md.protocol import MdProtocol
    from fhi_al.md.walker import Walkers


class Thermostat(Protocol):
    """What the class of every entry of `THERMOSTATS` makes."""

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
        from ase import units

        if self._temperatures is None or (walkers.temperatures != self._temperatures).any():
            self._temperatures = walkers.temperatures.copy()
            energies = _per_atom(walkers, units.kB * self._temperatures)
            self._width = self._gain * (walkers.masses[:, None] * energies).sqrt()
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
        from ase import units

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
        from ase import units

        self._indices = list(indices)
        self._degrees = walkers.degrees_of_freedom()[self._indices]
        self._timesteps = np.array([p.timestep_fs * units.fs for p in protocols])
        self._times = np.array([p.thermostat_time_fs * units.fs for p in protocols])

    def act(self, walkers: Walkers) -> None:
        """Propagate the chains and rescale the momenta of each walker."""
        from ase import units

        energies = units.kB * walkers.temperatures[self._indices]
        chain = walkers.chains[self._indices]
        length = chain.shape[2]
        masses = np.repeat((energies * self._times**2)[:, None], length, axis=1)
        masses[:, 0] *= self._degrees
        twice_kinetic = 2 * walkers.kinetic_energies().cpu().numpy()[self._indices]
        positions, velocities = chain[:, 0], chain[:, 1]
        scale = np.ones(len(energies))

        def accelerate(link: int, time: FloatArray) -> None:
            if link == 0:
                force = twice_kinetic * scale**2 - self._degrees * energies
            else:
                force = masses[:, link - 1] * velocities[:, link - 1] ** 2 - energies
            velocities[:, link] += force / masses[:, link] * time

        def drag(link: int, time: FloatArray) -> None:
            if link + 1 < length:
                velocities[:, link] *= np.exp(-velocities[:, link + 1] * time)

        for weight in self.WEIGHTS:
            time = weight * self._timesteps
            for link in reversed(range(length)):
                drag(link, time / 4)
                accelerate(link, time / 2)
                drag(link, time / 4)
            scale *= np.exp(-velocities[:, 0] * time)
            positions += velocities * time[:, None]
            for link in range(length):
                drag(link, time / 4)
                accelerate(link, time / 2)
                drag(link, time / 4)
        walkers.chains[self._indices] = chain
        factors = np.ones(len(walkers))
        factors[self._indices] = scale
        walkers.momenta.mul_(_per_atom(walkers, factors))


def _per_atom(walkers: Walkers, values: FloatArray) -> torch.Tensor:
    """(atoms, 1) from (walkers,)."""
    import torch

    index = walkers.batch.structure_index
    return torch.from_numpy(values).to(index.device)[index, None]


@dataclass(frozen=True, kw_only=True)
class ThermostatChoice(Choice[type[Thermostat]]):
    """An entry of `THERMOSTATS`.

    Attributes:
        conserves_momentum: whether it leaves the total momentum as it is.
    """

    conserves_momentum: bool = True


LEIMKUHLER_2013 = Citation(
    "Leimkuhler2013",
    r"""@article{Leimkuhler2013,
  author = {Leimkuhler, Benedict and Matthews, Charles},
  title = {Robust and efficient configurational molecular sampling via {Langevin} dynamics},
  journal = {J. Chem. Phys.},
  volume = {138},
  pages = {174102},
  year = {2013},
  doi = {10.1063/1.4802990}
}""",
)
BUSSI_2007 = Citation(
    "Bussi2007",
    r"""@article{Bussi2007,
  author = {Bussi, Giovanni and Donadio, Davide and Parrinello, Michele},
  title = {Canonical sampling through velocity rescaling},
  journal = {J. Chem. Phys.},
  volume = {126},
  pages = {014101},
  year = {2007},
  doi = {10.1063/1.2408420}
}""",
)
MARTYNA_1992 = Citation(
    "Martyna1992",
    r"""@article{Martyna1992,
  author = {Martyna, Glenn J. and Klein, Michael L. and Tuckerman, Mark},
  title = {{Nos\'e}--{Hoover} chains: The canonical ensemble via continuous dynamics},
  journal = {J. Chem. Phys.},
  volume = {97},
  pages = {2635--2643},
  year = {1992},
  doi = {10.1063/1.463940}
}""",
)

THERMOSTATS = Registry[ThermostatChoice](
    "a thermostat",
    {
        "langevin": ThermostatChoice(
            Langevin,
            "Langevin dynamics",
            citations=(LEIMKUHLER_2013,),
            settings=("friction_per_fs",),
            details="with a friction of {friction_per_fs:g}/fs",
            conserves_momentum=False,
        ),
        "bussi": ThermostatChoice(
            Bussi,
            "stochastic velocity rescaling",
            citations=(BUSSI_2007,),
            settings=("thermostat_time_fs",),
            details="with a relaxation time of {thermostat_time_fs:g} fs",
        ),
        "nhc": ThermostatChoice(
            NoseHooverChain,
            "a Nosé-Hoover chain",
            citations=(MARTYNA_1992,),
            settings=("thermostat_time_fs",),
            details="with a relaxation time of {thermostat_time_fs:g} fs",
        ),
    },
)
"""Ways to hold the temperature; `MD.thermostat` chooses one."""
