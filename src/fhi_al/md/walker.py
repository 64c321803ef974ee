"""The walkers of molecular dynamics: where each trajectory is, and its own random numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import units

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import BoolArray, FloatArray, IntArray, Structure
from fhi_al.errors import JournalError

# First part of each walker's spawn key: the same seed gives unrelated noise to each use.
STREAMS = {"active_learning": 0, "foundation": 1, "reference": 2, "perturb": 3}

CHAIN_LENGTH = 3
"""Thermostats in a Nose-Hoover chain."""


def generator(seed: int, stream: str, index: int) -> np.random.Generator:
    """Make the random number generator of one trajectory.

    It depends on nothing else: not on how many others there are, or were before.

    Args:
        seed: of the run.
        stream: what the numbers are for, one of `STREAMS`.
        index: trajectory, or number of the sample.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(STREAMS[stream], index))
    return np.random.Generator(np.random.PCG64(sequence))


@dataclass(eq=False)
class Walkers:
    """Trajectories at their present time, in one batch.

    Momenta are in ASE's units, amu Å / (ASE time) = sqrt(eV amu), in float64 like the positions,
    whatever the precision of the model.

    Attributes:
        batch: numbers, positions and cells.
        structures: (walkers) where each began; holds what never changes (moments, charges,
            fixed atoms).
        trajectories: (walkers,) number of each trajectory.
        steps: (walkers,) MD steps that each has made.
        momenta: (atoms, 3).
        masses: (atoms,) in amu.
        fixed: (atoms,) atoms that don't move.
        temperatures: (walkers,) to be held, in K.
        pressures: (walkers,) to be held, in eV/Å^3; of meaning only with a barostat.
        chains: (walkers, 2, CHAIN_LENGTH) positions, and velocities in 1 / (ASE time), of the
            Nose-Hoover chains; zeros without one.
        at_rest: (walkers,) whether the centre of mass is held at rest; three degrees of
            freedom less. See `Walkers.start`.
        half_stepped: positions are ahead of momenta by half a step: the forces at the present
            positions are not known yet (MD with the reference, one file a step).
        generators: (walkers) random numbers of each.
    """

    batch: Batch
    structures: list[Structure]
    trajectories: IntArray
    steps: IntArray
    momenta: torch.Tensor
    masses: torch.Tensor
    fixed: torch.Tensor
    temperatures: FloatArray
    pressures: FloatArray
    chains: FloatArray
    at_rest: BoolArray
    half_stepped: bool
    generators: list[np.random.Generator]

    def __len__(self) -> int:
        return len(self.trajectories)

    @property
    def positions(self) -> torch.Tensor:
        """(atoms, 3) in Å; changed in place by integrators."""
        return self.batch.positions

    def structure(self, index: int) -> Structure:
        """The present structure of a walker."""
        return self.structure_at(index, self.positions, self.batch.cells)

    def structure_at(self, index: int, positions: torch.Tensor, cells: torch.Tensor) -> Structure:
        """The structure of a walker at another time.

        Args:
            index: which.
            positions: (atoms, 3) of all walkers in Å.
            cells: (walkers, 3, 3) in Å.
        """
        start = self.structures[index]
        return Structure(
            numbers=start.numbers,
            positions=positions[self.batch.atoms(index)].cpu().numpy(),
            cell=cells[index].cpu().numpy(),
            pbc=start.pbc,
            magmoms=start.magmoms,
            charges=start.charges,
            fixed=start.fixed,
        )

    def reset(self, index: int, structure: Structure) -> None:
        """Put a walker to another structure of the same atoms, with new velocities."""
        if not np.array_equal(structure.numbers, self.structures[index].numbers):
            raise JournalError(
                f"trajectory {self.trajectories[index]} can't go on from a structure with "
                "other atoms"
            )
        self.positions[self.batch.atoms(index)] = torch.tensor(
            structure.positions, device=self.batch.device
        )
        self.batch.cells[index] = torch.tensor(structure.cell, device=self.batch.device)
        self.thermalize(index)

    def thermalize(self, index: int) -> None:
        """Draw new velocities for a walker; its thermostat begins anew."""
        self.set_velocities(index, None)
        self.chains[index] = 0.0

    def noise(self, indices: Sequence[int]) -> torch.Tensor:
        """Draw (atoms, 3) standard normal deviates, each walker's from its own generator.

        Args:
            indices: of the walkers that get noise; the others get zeros.
        """
        draw_all = len(indices) == len(self)
        shape = (self.batch.n_atoms, 3)
        values = np.empty(shape) if draw_all else np.zeros(shape)
        for index in indices:
            self.generators[index].standard_normal(out=values[self.batch.atoms(index)])
        return torch.from_numpy(values).to(self.batch.device)

    def constrain(self, momenta: torch.Tensor) -> None:
        """Project momenta, in place: fixed atoms and centres of mass at rest don't move.

        The projection is orthogonal in mass-weighted coordinates, so that projected thermal
        noise is thermal noise of the degrees of freedom that are left.
        """
        if self.fixed.any():
            momenta[self.fixed] = 0.0
        if self.at_rest.any():
            total = self.batch.sum(torch.cat([momenta, self.masses[:, None]], dim=1))
            velocity = total[:, :3] / total[:, 3:]
            if not self.at_rest.all():
                velocity[torch.from_numpy(~self.at_rest).to(velocity.device)] = 0.0
            momenta -= self.masses[:, None] * velocity[self.batch.structure_index]

    def kinetic_energies(self) -> torch.Tensor:
        """(walkers,) in eV."""
        return self.batch.sum((self.momenta**2).sum(1) / (2 * self.masses))

    def degrees_of_freedom(self) -> IntArray:
        """(walkers,) that carry kinetic energy."""
        mobile = self.batch.sum((~self.fixed).to(torch.int64)).cpu().numpy()
        degrees: IntArray = 3 * mobile - 3 * self.at_rest
        return degrees

    def kinetic_temperatures(self) -> FloatArray:
        """(walkers,) twice the kinetic energy per degree of freedom, in K."""
        degrees = np.maximum(self.degrees_of_freedom(), 1)
        temperatures: FloatArray = 2 * self.kinetic_energies().cpu().numpy() / (degrees * units.kB)
        return temperatures

    def select(self, indices: Iterable[int]) -> Walkers:
        """Take some walkers out, in this order: a copy that only shares random generators."""
        chosen = list(indices)
        parts = [self.batch.atoms(index) for index in chosen]
        batch = Batch.from_structures([self.structures[index] for index in chosen])
        batch = Batch(
            numbers=batch.numbers.to(self.batch.device),
            positions=torch.cat([self.positions[part] for part in parts]),
            cells=self.batch.cells[chosen],
            pbc=batch.pbc,
            ptr=batch.ptr,
            structure_index=batch.structure_index.to(self.batch.device),
        )
        return Walkers(
            batch=batch,
            structures=[self.structures[index] for index in chosen],
            trajectories=self.trajectories[chosen],
            steps=self.steps[chosen],
            momenta=torch.cat([self.momenta[part] for part in parts]),
            masses=torch.cat([self.masses[part] for part in parts]),
            fixed=torch.cat([self.fixed[part] for part in parts]),
            temperatures=self.temperatures[chosen],
            pressures=self.pressures[chosen],
            chains=self.chains[chosen],
            at_rest=self.at_rest[chosen],
            half_stepped=self.half_stepped,
            generators=[self.generators[index] for index in chosen],
        )

    def assign(self, part: Walkers, indices: Iterable[int] | None = None) -> None:
        """Take over the state of walkers.

        Args:
            part: some of these walkers, moved on.
            indices: which of `part`; None: all.
        """
        mine = {int(trajectory): index for index, trajectory in enumerate(self.trajectories)}
        for other in range(len(part)) if indices is None else indices:
            index = mine[int(part.trajectories[other])]
            to, source = self.batch.atoms(index), part.batch.atoms(other)
            self.positions[to] = part.positions[source]
            self.momenta[to] = part.momenta[source]
            self.batch.cells[index] = part.batch.cells[other]
            self.steps[index] = part.steps[other]
            self.temperatures[index] = part.temperatures[other]
            self.pressures[index] = part.pressures[other]
            self.chains[index] = part.chains[other]
            self.generators[index] = part.generators[other]

    def set_velocities(self, index: int, velocities: FloatArray | None) -> None:
        """Give a walker velocities.

        Args:
            index: which.
            velocities: (atoms, 3) in Å/fs; None: drawn, at its temperature.
        """
        atoms = self.batch.atoms(index)
        masses = self.masses[atoms, None]
        if velocities is None:
            noise = self.generators[index].standard_normal((len(masses), 3))
            thermal = torch.sqrt(masses * (units.kB * self.temperatures[index]))
            momenta = thermal * torch.from_numpy(noise).to(masses.device)
        else:
            momenta = masses * torch.tensor(velocities / units.fs, device=masses.device)
        momenta[self.fixed[atoms]] = 0.0
        if self.at_rest[index]:
            momenta -= masses * (momenta.sum(0) / masses.sum())
        self.momenta[atoms] = momenta
