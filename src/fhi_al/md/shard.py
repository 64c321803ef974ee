"""Walkers that one process moves together from check to check."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from fhi_al.atoms.structure import FloatArray, Structure
from fhi_al.errors import FhiAlError
from fhi_al.md.drive import Drive
from fhi_al.md.guard import Guard, Moment
from fhi_al.md.walker import Walkers


@dataclass(frozen=True)
class Frame:
    """A walker at a check.

    Attributes:
        trajectory: its number.
        step: MD steps that it has made.
        uncertainty: in eV/Å; of a walker that broke down, at its last sane frame.
        temperature: kinetic, in K.
        broken: what broke down on the way, in words; empty for a sane walker. A broken one is back
            where it was at the check before.
        frontier: MD step of the last sane frame on the way; of a sane walker, `step`.
    """

    trajectory: int
    step: int
    uncertainty: float
    temperature: float
    broken: str
    frontier: int


class Shard:
    """Moves walkers and says how they are; what to do about it is decided elsewhere.

    After every step the forces are looked at; everything else at the checks. When a walker turns
    out to be broken, the steps since the last check, which are remembered, are searched for its
    last sane frame.

    Args:
        walkers: moved in place.
        drive: gives the forces and makes the steps.
        guard: knows what is sane.

    Raises:
        FhiAlError: the driver gives no walker any finite forces where they start.
    """

    def __init__(self, walkers: Walkers, drive: Drive, guard: Guard) -> None:
        self.walkers = walkers
        self._drive = drive
        self._guard = guard
        self._predict(check=True)
        self._check_driver()
        self._moments = [Moment.of(walkers, self._push.members)]
        # A walker may be broken where it starts. Nothing can be moved by such forces.
        self._broken = guard.complaints(walkers, range(len(walkers)), self._moments[0])
        self._frontiers: dict[int, int] = dict.fromkeys(self._broken, 0)
        for index in self._broken:
            self._push.silence(walkers.batch, index)
        self._calm_push = self._push.copy()
        self._sane = walkers.select(range(len(walkers)))
        self._seen: list[tuple[Structure, FloatArray | None]] = []

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
            self._moments.append(Moment.of(walkers, self._push.members))
            if not self._guard.calm(self._push.members):
                self._examine()
            yield
        self._examine()
        frames = self._note()
        self._begin_interval()
        return frames

    def structure(self, index: int) -> tuple[Structure, FloatArray | None]:
        """The structure of a walker that its frame is about: its last sane one.

        Returns:
            The structure, and the (atoms, 3) forces predicted for it in eV/Å; None in place of
            forces that are not finite.
        """
        return self._seen[index]

    def _predict(self, *, check: bool) -> None:
        self._push = self._drive.push(self.walkers, check=check)

    def _check_driver(self) -> None:
        finite = self._push.members.isfinite().all(dim=2).all(dim=0)
        if not finite.any():
            raise FhiAlError(
                "the models give no finite forces for any trajectory where it starts: their "
                "weights are damaged or have diverged. Start from other models (initial_models), "
                "or train with a lower TRAINING.lr in mace_settings.yaml in another folder"
            )

    def _examine(self) -> None:
        """Put back walkers that have broken down since the last check."""
        walkers, newest = self.walkers, self._moments[-1]
        whole = [index for index in range(len(walkers)) if index not in self._broken]
        found = self._guard.complaints(walkers, whole, newest)
        for index in found:
            frontier = self._guard.frontier(walkers, index, self._moments)
            first = self._guard.complaint(walkers, index, self._moments[frontier + 1])
            assert first is not None
            self._frontiers[index] = frontier
            self._broken[index] = first
        for index in self._broken:
            self._put_back(index)

    def _note(self) -> list[Frame]:
        """Describe all walkers as of this check."""
        walkers, guard = self.walkers, self._guard
        temperatures = walkers.kinetic_temperatures()
        values = self._drive.uncertainties(walkers, self._push).cpu().numpy()
        frames, self._seen = [], []
        for index, temperature in enumerate(temperatures):
            step, broken = int(walkers.steps[index]), self._broken.get(index, "")
            structure, members, value = walkers.structure(index), self._push.members, values[index]
            frontier = 0
            if broken:
                frontier = self._frontiers[index]
                moment = self._moments[frontier]
                structure = walkers.structure_at(index, moment.positions, moment.cells)
                members = moment.forces
                # Where one member drives, all were asked at the check before only.
                asked = members if len(members) > 1 else self._moments[0].forces
                value = self._drive.spread(walkers, asked)[index].item()
            forces = members[:, walkers.batch.atoms(index)].mean(dim=0).cpu().numpy()
            self._seen.append((structure, forces if np.isfinite(forces).all() else None))
            frames.append(
                Frame(
                    trajectory=int(walkers.trajectories[index]),
                    step=step,
                    uncertainty=float(value) if np.isfinite(value) else guard.max_force,
                    temperature=float(temperature),
                    broken=broken,
                    frontier=step + frontier,
                )
            )
        return frames

    def _begin_interval(self) -> None:
        """Remember where all walkers are, to come back to."""
        members = self._push.members
        if self._broken:
            members = members.clone()
        for index in self._broken:
            atoms = self.walkers.batch.atoms(index)
            members[:, atoms] = self._moments[0].forces[:, atoms]
        self._calm_push = self._push.copy()
        self._sane = self.walkers.select(range(len(self.walkers)))
        self._moments = [Moment.of(self.walkers, members)]
        self._broken, self._frontiers = {}, {}

    def _put_back(self, index: int) -> None:
        """Put a walker to where it was at the check before; new velocities, or it breaks again."""
        self.walkers.assign(self._sane, [index])
        self.walkers.thermalize(index)
        self._push.take(self._calm_push, self.walkers.batch, index)
