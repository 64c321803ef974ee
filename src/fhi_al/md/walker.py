"""The walkers of molecular dynamics: where each trajectory is, and its own random numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ase import units
from ase.data import atomic_masses

from fhi_al.errors import JournalError
from fhi_al.files import write_hdf5
from fhi_al.md.batch import Batch
from fhi_al.structure import BoolArray, FloatArray, IntArray, Structure

# First part of each walker's spawn key: the same seed gives unrelated noise to each use.
STREAMS = {"active_learning": 0, "foundation": 1, "reference": 2, "perturb": 3}


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
    at_rest: BoolArray
    half_stepped: bool
    generators: list[np.random.Generator]

    def __len__(self) -> int:
        return len(self.trajectories)

    @property
    def positions(self) -> torch.Tensor:
        """(atoms, 3) in Å; changed in place by integrators."""
        return self.batch.positions

    @classmethod
    def start(
        cls,
        structures: Sequence[Structure],
        trajectories: Sequence[int],
        temperature_K: float,
        seed: int,
        *,
        stream: str = "active_learning",
        conserves_momentum: bool = False,
        velocities: Sequence[FloatArray | None] | None = None,
        device: torch.device | str = "cpu",
    ) -> Walkers:
        """Begin trajectories with velocities from the Maxwell-Boltzmann distribution.

        The centre of mass is at rest, exactly, where nothing would move it: in free molecules,
        and everywhere when the integrator conserves momentum; never where atoms are fixed.
        Nothing else is taken from the canonical distribution: kinetic energies fluctuate.

        Args:
            structures: where each walker begins.
            trajectories: number of each.
            temperature_K: of the velocities, and to be held later, in K.
            seed: of the run.
            stream: what the trajectories are for; see `generator`.
            conserves_momentum: whether the integrator conserves the total momentum (NVE).
            velocities: (atoms, 3) in Å/fs for each walker; None: to be drawn.
            device: where the tensors live.
        """
        batch = Batch.from_structures(structures, device)
        fixed = [_mask(structure) for structure in structures]
        walkers = cls(
            batch=batch,
            structures=list(structures),
            trajectories=np.array(trajectories, dtype=np.int64),
            steps=np.zeros(len(structures), dtype=np.int64),
            momenta=torch.zeros_like(batch.positions),
            masses=torch.tensor(atomic_masses[batch.numbers.cpu().numpy()], device=device),
            fixed=torch.tensor(np.concatenate(fixed), device=device),
            temperatures=np.full(len(structures), float(temperature_K)),
            at_rest=np.array(
                [
                    (conserves_momentum or not structure.periodic) and not mask.any()
                    for structure, mask in zip(structures, fixed, strict=True)
                ]
            ),
            half_stepped=False,
            generators=[generator(seed, stream, trajectory) for trajectory in trajectories],
        )
        given = velocities or [None] * len(structures)
        for index, velocity in enumerate(given):
            walkers._set_velocities(index, velocity)
        return walkers

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
        """Draw new velocities for a walker."""
        self._set_velocities(index, None)

    def noise(self) -> torch.Tensor:
        """Draw (atoms, 3) standard normal deviates, each walker's from its own generator."""
        values = np.empty((self.batch.n_atoms, 3))
        for index, random in enumerate(self.generators):
            random.standard_normal(out=values[self.batch.atoms(index)])
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
            at_rest=self.at_rest[chosen],
            half_stepped=self.half_stepped,
            generators=[self.generators[index] for index in chosen],
        )

    def assign(self, part: Walkers, indices: Iterable[int] | None = None) -> None:
        """Take over positions, momenta, steps and generators of walkers.

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
            self.generators[index] = part.generators[other]

    def save(self, path: Path) -> None:
        """Write all of it to an HDF5 file; `load` gives the same bits back."""
        arrays: dict[str, Any] = {
            "trajectories": self.trajectories,
            "steps": self.steps,
            "ptr": self.batch.ptr,
            "numbers": self.batch.numbers.cpu().numpy(),
            "positions": self.positions.cpu().numpy(),
            "momenta": self.momenta.cpu().numpy(),
            "fixed": self.fixed.cpu().numpy(),
            "cells": self.batch.cells.cpu().numpy(),
            "pbc": self.batch.pbc,
            "temperatures": self.temperatures,
            "at_rest": self.at_rest,
            "generators": [json.dumps(random.bit_generator.state) for random in self.generators],
        }
        for name in ("magmoms", "charges"):
            given = [getattr(structure, name) for structure in self.structures]
            arrays[f"has_{name}"] = np.array([values is not None for values in given])
            arrays[name] = np.concatenate(
                [
                    np.zeros(len(structure)) if values is None else values
                    for structure, values in zip(self.structures, given, strict=True)
                ]
            )

        def write(file: h5py.File) -> None:
            for name, values in arrays.items():
                file[name] = values
            file.attrs["half_stepped"] = self.half_stepped

        write_hdf5(path, write)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Walkers:
        """Read walkers that `save` wrote.

        Raises:
            JournalError: the file is missing or damaged.
        """
        try:
            with h5py.File(path, "r", locking=False) as file:
                data = {name: values[()] for name, values in file.items()}
                half_stepped = bool(file.attrs["half_stepped"])
            return cls._from_arrays(data, half_stepped, device)
        except FileNotFoundError:
            raise JournalError(f"{path} is missing, though the journal names it") from None
        except (OSError, KeyError, ValueError) as error:
            raise JournalError(f"{path} can't be read: {error}") from error

    @classmethod
    def _from_arrays(
        cls, data: dict[str, Any], half_stepped: bool, device: torch.device | str
    ) -> Walkers:
        structures = []
        for index, (first, last) in enumerate(zip(data["ptr"][:-1], data["ptr"][1:], strict=True)):
            atoms = slice(first, last)
            structures.append(
                Structure(
                    numbers=data["numbers"][atoms],
                    positions=data["positions"][atoms],
                    cell=data["cells"][index],
                    pbc=data["pbc"][index],
                    magmoms=data["magmoms"][atoms] if data["has_magmoms"][index] else None,
                    charges=data["charges"][atoms] if data["has_charges"][index] else None,
                    fixed=data["fixed"][atoms],
                )
            )
        generators = []
        for state in data["generators"]:
            bits = np.random.PCG64()
            bits.state = json.loads(state)
            generators.append(np.random.Generator(bits))
        return cls(
            batch=Batch.from_structures(structures, device),
            structures=structures,
            trajectories=data["trajectories"],
            steps=data["steps"],
            momenta=torch.tensor(data["momenta"], device=device),
            masses=torch.tensor(atomic_masses[data["numbers"]], device=device),
            fixed=torch.tensor(data["fixed"], device=device),
            temperatures=data["temperatures"],
            at_rest=data["at_rest"],
            half_stepped=half_stepped,
            generators=generators,
        )

    def _set_velocities(self, index: int, velocities: FloatArray | None) -> None:
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


def _mask(structure: Structure) -> BoolArray:
    assert structure.fixed is not None
    return structure.fixed
