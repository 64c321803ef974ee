"""What moves the walkers: the mean of the committee or one of its members, and a bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fhi_al.atoms.batch import Batch
from fhi_al.md.bias import Bias
from fhi_al.md.driver import Driver
from fhi_al.md.integrators import Integrator
from fhi_al.md.protocol import MdProtocol
from fhi_al.md.uncertainty import UNCERTAINTIES
from fhi_al.md.walker import Walkers


@dataclass(eq=False)
class DriverForces:
    """Forces on walkers where they are.

    Attributes:
        members: (members, atoms, 3) in eV/Å, of those that were asked.
        forces: (atoms, 3) in eV/Å that the walkers move by.
        stress: (walkers, 3, 3) in eV/Å^3 that goes with `forces`, or None.
        member_stress: (members, walkers, 3, 3) in eV/Å^3, or None.
    """

    members: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None
    member_stress: torch.Tensor | None

    def copy(self) -> DriverForces:
        """With what moves the walkers in memory of its own."""
        stress = None if self.stress is None else self.stress.clone()
        return replace(self, forces=self.forces.clone(), stress=stress)

    def silence(self, batch: Batch, index: int) -> None:
        """Let nothing move one walker."""
        self.forces[batch.atoms(index)] = 0.0
        if self.stress is not None:
            self.stress[index] = 0.0

    def take(self, other: DriverForces, batch: Batch, index: int) -> None:
        """Take over what moves one walker."""
        atoms = batch.atoms(index)
        self.forces[atoms] = other.forces[atoms]
        if self.stress is not None and other.stress is not None:
            self.stress[index] = other.stress[index]


class Drive:
    """Gives forces to walkers and tells how uncertain they are.

    Args:
        driver: the committee.
        walkers: that will move.
        protocols: one a walker, in order.
        uncertainty: a key of `UNCERTAINTIES`.
        one_member: the first member alone moves the walkers; the others are asked at checks only.
        n_train: labels in the training set, for ramps.

    Attributes:
        integrator: for these walkers.
    """

    def __init__(
        self,
        driver: Driver,
        walkers: Walkers,
        protocols: Sequence[MdProtocol],
        uncertainty: str = "max_atomic_sd",
        *,
        one_member: bool = False,
        n_train: int = 0,
    ) -> None:
        self.integrator = Integrator(walkers, protocols, n_train)
        self._driver = driver
        self._lists = driver.neighbor_lists()
        self._one_member = one_member
        measure = UNCERTAINTIES[uncertainty]
        self._uncertainty = measure.load()
        self._asks_stress = "stress" in measure.needs
        self._bias = Bias(protocols, walkers.batch.device)

    def push(self, walkers: Walkers, *, check: bool) -> DriverForces:
        """Compute the forces on walkers.

        Args:
            walkers: where they are now; always the same.
            check: whether the uncertainty is wanted: then all members are asked.
        """
        stress = self.integrator.needs_stress or (check and self._asks_stress)
        if self._one_member and not check:
            out = self._driver.predict(walkers.batch, self._lists, stress=stress, only_first=True)
        else:
            out = self._driver.predict(walkers.batch, self._lists, stress=stress)
        if self._one_member:
            # A copy: the shard replaces forces of walkers that broke.
            forces, pull = out.forces[0].clone(), None if out.stress is None else out.stress[0]
        else:
            forces, pull = out.forces.mean(0), None if out.stress is None else out.stress.mean(0)
            if self._bias.any:
                more, more_stress = self._bias.of(out, walkers.batch)
                forces = forces + more
                pull = None if pull is None or more_stress is None else pull + more_stress
        return DriverForces(out.forces, forces, pull, out.stress)

    def uncertainties(self, walkers: Walkers, push: DriverForces) -> torch.Tensor:
        """(walkers,) in eV/Å, from a push that was made for a check."""
        return self._uncertainty(
            push.members, walkers.batch, ~walkers.fixed, stress=push.member_stress
        )

    def spread(self, walkers: Walkers, members: torch.Tensor) -> torch.Tensor:
        """(walkers,) in eV/Å, from (members, atoms, 3) forces in eV/Å, without stress."""
        return self._uncertainty(members, walkers.batch, ~walkers.fixed)
