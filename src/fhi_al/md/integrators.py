"""Integrators: from forces to the next positions and momenta, for all walkers at once.

A step is split where the forces are needed: `begin` moves the walkers to their new positions,
`finish` takes the forces there. So a step may lie in two processes, or days apart, when a
reference calculation gives the forces.

All walkers share the scheme, whatever their conditions: half a kick, half a drift, the bath, half a
drift, half a kick. Without a bath that is velocity Verlet, with friction and noise it is BAOAB; the
place of the bath has the smallest error in averages over positions for every thermostat.

Source: Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637 (1982): velocity Verlet. Zhang, Liu,
    Chen, Zheng, Yan, Liu, J. Chem. Phys. 147, 034109 (2017): thermostats in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import units

from fhi_al.md.barostats import BAROSTATS, Barostat
from fhi_al.md.protocol import MdProtocol
from fhi_al.md.thermostats import THERMOSTATS, Thermostat
from fhi_al.md.walker import Walkers


class Integrator:
    """Moves a batch of walkers, each by its own protocol.

    Args:
        walkers: to be moved; their targets of temperature and pressure are set.
        protocols: one a walker, in order.
        n_train: labels in the training set, for ramps.

    Attributes:
        needs_stress: whether `begin` needs it.
    """

    def __init__(self, walkers: Walkers, protocols: Sequence[MdProtocol], n_train: int = 0) -> None:
        self._protocols = list(protocols)
        self._n_train = n_train
        self._ramps = any(
            ramp.start != ramp.end for p in protocols for ramp in (p.temperature, p.pressure)
        )
        index = walkers.batch.structure_index
        timesteps = torch.tensor(
            [p.timestep_fs * units.fs for p in protocols], dtype=torch.float64, device=index.device
        )
        self._timestep = timesteps[index, None]
        self._drift = self._timestep / 2 / walkers.masses[:, None]
        self._thermostats: list[Thermostat] = []
        self._barostats: list[Barostat] = []
        for name, thermostat in THERMOSTATS.items():
            mine = [
                i
                for i, protocol in enumerate(protocols)
                if protocol.ensemble != "nve" and protocol.thermostat == name
            ]
            if mine:
                chosen = [protocols[i] for i in mine]
                self._thermostats.append(thermostat.load()(walkers, mine, chosen))
        for name, barostat in BAROSTATS.items():
            mine = [
                i
                for i, protocol in enumerate(protocols)
                if protocol.ensemble == "npt" and protocol.barostat == name
            ]
            if mine:
                chosen = [protocols[i] for i in mine]
                self._barostats.append(barostat.load()(walkers, mine, chosen))
        self.needs_stress = bool(self._barostats)
        self._aim(walkers)

    def begin(
        self, walkers: Walkers, forces: torch.Tensor, stress: torch.Tensor | None = None
    ) -> None:
        """Move to the positions of the next step.

        Args:
            walkers: changed in place.
            forces: (atoms, 3) at the present positions, in eV/Å.
            stress: (walkers, 3, 3) there, in eV/Å^3; where `needs_stress`.
        """
        if self._ramps:
            self._aim(walkers)
        self._kick(walkers, forces)
        walkers.positions.addcmul_(walkers.momenta, self._drift)
        for barostat in self._barostats:
            assert stress is not None
            barostat.act(walkers, stress)
        for thermostat in self._thermostats:
            thermostat.act(walkers)
        walkers.positions.addcmul_(walkers.momenta, self._drift)

    def finish(self, walkers: Walkers, forces: torch.Tensor) -> None:
        """Complete the step.

        Args:
            walkers: changed in place.
            forces: (atoms, 3) at the positions that `begin` moved to, in eV/Å.
        """
        self._kick(walkers, forces)

    def _kick(self, walkers: Walkers, forces: torch.Tensor) -> None:
        walkers.momenta.addcmul_(forces, self._timestep, value=0.5)
        walkers.constrain(walkers.momenta)

    def _aim(self, walkers: Walkers) -> None:
        """Set the temperatures and pressures to be held now."""
        for i, protocol in enumerate(self._protocols):
            step = int(walkers.steps[i])
            walkers.temperatures[i] = protocol.temperature.value(step, self._n_train)
            walkers.pressures[i] = protocol.pressure.value(step, self._n_train)
