"""Walkers that one process moves together from check to check."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch

from fhi_al.md.drive import Drive, Push
from fhi_al.md.guard import MAX_FORCE, broken
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
        drive: gives the forces and makes the steps.
    """

    def __init__(self, walkers: Walkers, drive: Drive) -> None:
        self.walkers = walkers
        self._drive = drive
        self._broken: BoolArray = np.zeros(len(walkers), dtype=bool)
        self._predict(check=True)
        self._note()
        # A walker may be broken where it starts. Nothing can be moved by such forces.
        self._broken = broken(walkers, self._push.members)
        self._calm(self._push, self._broken)
        self._calm(self._calm_push, self._broken)

    def advance(self, n_steps: int) -> Generator[None, None, list[Frame]]:
        """Move all walkers to the next check.

        Yields:
            After every MD step.

        Returns:
            One frame for each walker, in order.
        """
        walkers, integrator = self.walkers, self._drive.integrator
        for step in range(n_steps):
            integrator.begin(walkers, self._push.forces, self._push.stress)
            self._predict(check=step == n_steps - 1)
            integrator.finish(walkers, self._push.forces)
            walkers.steps += 1
            exploded = broken(walkers, self._push.members)
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

    def _predict(self, *, check: bool) -> None:
        self._push = self._drive.push(self.walkers, check=check)

    def _note(self) -> list[Frame]:
        """Describe all walkers, and remember where they are."""
        walkers = self.walkers
        values = self._drive.uncertainties(walkers, self._push).cpu().numpy()
        values = np.nan_to_num(values, nan=MAX_FORCE, posinf=MAX_FORCE)
        noted = self._push.predicted.clone()
        if self._broken.any():
            values[self._broken] = self._values[self._broken]
            back = self._atoms(self._broken)
            noted[back] = self._noted_forces[back]
        self._values: FloatArray = values
        self._noted_forces: torch.Tensor = noted
        self._sane = walkers.select(range(len(walkers)))
        self._calm_push = self._push.copy()
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
        self._push.take(self._calm_push, self.walkers.batch, index)

    def _calm(self, push: Push, chosen: BoolArray) -> None:
        push.forces[self._atoms(chosen)] = 0.0
        if push.stress is not None:
            push.stress[torch.from_numpy(chosen).to(push.stress.device)] = 0.0

    def _atoms(self, chosen: BoolArray) -> torch.Tensor:
        """(atoms,) which belong to the chosen walkers."""
        index = self.walkers.batch.structure_index
        return torch.from_numpy(chosen).to(index.device)[index]
