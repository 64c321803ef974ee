"""Walkers that one process moves together from check to check."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch

from fhi_al.ensemble.predict import Driver
from fhi_al.ensemble.uncertainty import Uncertainty
from fhi_al.md.guard import MAX_FORCE, broken
from fhi_al.md.integrators import Integrator
from fhi_al.md.walker import Walkers
from fhi_al.structure import BoolArray, FloatArray, Structure


@dataclass(frozen=True)
class Frame:
    """A walker at a check.

    Attributes:
        trajectory: its number.
        step: MD steps that it has made.
        uncertainty: in eV/Å.
        temperature: kinetic, in K.
        broken: it exploded on the way and is back where it was at the check before, which the
            other attributes describe.
    """

    trajectory: int
    step: int
    uncertainty: float
    temperature: float
    broken: bool


class Shard:
    """Moves walkers and says how they are; what to do about it is decided elsewhere.

    Args:
        walkers: moved in place.
        driver: gives the forces: the mean over its members.
        integrator: makes the steps.
        uncertainty: how to measure the members' disagreement.
    """

    def __init__(
        self, walkers: Walkers, driver: Driver, integrator: Integrator, uncertainty: Uncertainty
    ) -> None:
        self.walkers = walkers
        self._driver = driver
        self._integrator = integrator
        self._uncertainty = uncertainty
        self._lists = driver.neighbor_lists()
        self._broken: BoolArray = np.zeros(len(walkers), dtype=bool)
        self._predict()
        self._note()
        # A walker may be broken where it starts. Nothing can be moved by such forces.
        self._broken = broken(walkers, self._members)
        start = self._atoms(self._broken)
        self._forces[start] = 0.0
        self._calm_forces[start] = 0.0

    def advance(self, n_steps: int) -> Generator[None, None, list[Frame]]:
        """Move all walkers to the next check.

        Yields:
            After every MD step.

        Returns:
            One frame for each walker, in order.
        """
        walkers = self.walkers
        for _ in range(n_steps):
            self._integrator.begin(walkers, self._forces)
            self._predict()
            self._integrator.finish(walkers, self._forces)
            walkers.steps += 1
            exploded = broken(walkers, self._members)
            self._broken |= exploded
            for index in np.flatnonzero(exploded):
                self._put_back(int(index))
            yield
        for index in np.flatnonzero(self._broken):
            self._put_back(int(index))
        frames = self._note()
        self._broken[:] = False
        return frames

    def structure(self, index: int) -> tuple[Structure, FloatArray | None]:
        """The present structure of a walker and the (atoms, 3) forces predicted for it, in eV/Å.

        None in place of forces that are not finite.
        """
        forces: FloatArray = self._noted_forces[self.walkers.batch.atoms(index)].cpu().numpy()
        return self.walkers.structure(index), forces if np.isfinite(forces).all() else None

    def _predict(self) -> None:
        self._members = self._driver.predict(self.walkers.batch, self._lists).forces
        self._forces = self._members.mean(dim=0)

    def _note(self) -> list[Frame]:
        """Describe all walkers, and remember where they are."""
        walkers = self.walkers
        values = self._uncertainty(self._members, walkers.batch, ~walkers.fixed).cpu().numpy()
        values = np.nan_to_num(values, nan=MAX_FORCE, posinf=MAX_FORCE)
        noted = self._forces.clone()
        if self._broken.any():
            values[self._broken] = self._values[self._broken]
            back = self._atoms(self._broken)
            noted[back] = self._noted_forces[back]
        self._values: FloatArray = values
        self._noted_forces: torch.Tensor = noted
        self._sane = walkers.select(range(len(walkers)))
        self._calm_forces: torch.Tensor = self._forces.clone()
        return [
            Frame(
                trajectory=int(walkers.trajectories[i]),
                step=int(walkers.steps[i]),
                uncertainty=float(values[i]),
                temperature=float(temperature),
                broken=bool(self._broken[i]),
            )
            for i, temperature in enumerate(walkers.kinetic_temperatures())
        ]

    def _put_back(self, index: int) -> None:
        """Put a walker to where it was at the check before; new velocities, or it breaks again."""
        self.walkers.assign(self._sane, [index])
        self.walkers.thermalize(index)
        atoms = self.walkers.batch.atoms(index)
        self._forces[atoms] = self._calm_forces[atoms]

    def _atoms(self, chosen: BoolArray) -> torch.Tensor:
        """(atoms,) which belong to the chosen walkers."""
        index = self.walkers.batch.structure_index
        return torch.from_numpy(chosen).to(index.device)[index]
