"""When molecular dynamics has left what any force field can be trusted with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import units
from ase.data import atomic_masses, chemical_symbols, covalent_radii
from scipy.spatial.distance import pdist

from fhi_al.atoms.pairs import flown_off, too_close
from fhi_al.atoms.structure import BoolArray, FloatArray, Structure
from fhi_al.md.protocol import Limits
from fhi_al.md.walker import Walkers


@dataclass(frozen=True)
class Moment:
    """All walkers after one step.

    Attributes:
        positions: (atoms, 3) in Å.
        momenta: (atoms, 3) in ASE's units.
        cells: (walkers, 3, 3) in Å.
        forces: (members, atoms, 3) in eV/Å.
    """

    positions: torch.Tensor
    momenta: torch.Tensor
    cells: torch.Tensor
    forces: torch.Tensor

    @classmethod
    def of(cls, walkers: Walkers, forces: torch.Tensor) -> Moment:
        """Copy what the next step will change.

        Args:
            walkers: as they are now.
            forces: (members, atoms, 3) there, which nobody changes.
        """
        return cls(
            walkers.positions.clone(), walkers.momenta.clone(), walkers.batch.cells.clone(), forces
        )


class Guard:
    """Tells whether a walker is still sane.

    Args:
        limits: of each walker.
        starts: the geometry of each walker, whose cell its cell is compared with.

    Attributes:
        max_force: lowest limit of the components of forces, in eV/Å.
    """

    def __init__(self, limits: Sequence[Limits], starts: Sequence[Structure]) -> None:
        self._limits = list(limits)
        self._forces = torch.tensor([one.max_force_eV_per_A for one in limits])
        self._speeds = torch.tensor([one.max_speed_A_per_fs for one in limits])
        self.max_force = float(self._forces.min())
        self._nearest: dict[tuple[bytes, float], FloatArray] = {}
        self._volumes = [abs(float(np.linalg.det(start.cell))) for start in starts]

    def calm(self, forces: torch.Tensor) -> bool:
        """Whether all forces are finite and below the limit: the check of every step.

        Args:
            forces: (members, atoms, 3) in eV/Å.
        """
        # The largest of numbers with a NaN among them is NaN, and not below anything.
        return bool(forces.abs().max() < self.max_force)

    def complaint(self, walkers: Walkers, index: int, moment: Moment) -> str | None:
        """Say what is wrong with a walker.

        Args:
            walkers: that it is one of.
            index: which.
            moment: of all of them.

        Returns:
            In words and numbers; or None.
        """
        atoms = walkers.batch.atoms(index)
        view = _View(
            structure=walkers.structures[index],
            positions=moment.positions[atoms].cpu().numpy(),
            momenta=moment.momenta[atoms].cpu().numpy(),
            cell=moment.cells[index].cpu().numpy(),
            forces=moment.forces[:, atoms].cpu().numpy(),
            degrees=int(walkers.degrees_of_freedom()[index]),
            temperature=float(walkers.temperatures[index]),
            limits=self._limits[index],
            start_volume=self._volumes[index],
        )
        return next(self._complaints(view), None)

    def complaints(
        self, walkers: Walkers, indices: Iterable[int], moment: Moment
    ) -> dict[int, str]:
        """Say what is wrong with which walkers; see `complaint`."""
        suspects = self._suspects(walkers, moment)
        found = (
            (index, self.complaint(walkers, index, moment)) for index in indices if suspects[index]
        )
        return {index: what for index, what in found if what is not None}

    def _suspects(self, walkers: Walkers, moment: Moment) -> BoolArray:
        """Single out walkers to be looked at closely, fast: for almost all checks there are none.

        Returns:
            (walkers,) False only where nothing is wrong.
        """
        batch = walkers.batch
        most_force, most_speed = self._forces.to(batch.device), self._speeds.to(batch.device)
        # Written so that a NaN makes a suspect.
        strengths = batch.max(moment.forces.abs().amax(dim=(0, 2)))
        squares = (moment.momenta**2).sum(dim=1)
        speeds = batch.max(squares.sqrt() / walkers.masses) * units.fs
        kinetic = batch.sum(squares / walkers.masses).cpu().numpy()
        degrees = np.maximum(walkers.degrees_of_freedom(), 1)
        hottest = np.array(
            [
                limits.hottest(temperature)
                for limits, temperature in zip(self._limits, walkers.temperatures, strict=True)
            ]
        )
        calm = ((strengths < most_force) & (speeds <= most_speed)).cpu().numpy()
        calm &= kinetic / (degrees * units.kB) <= hottest
        positions = moment.positions.cpu().numpy()
        for index in np.flatnonzero(calm).tolist():
            calm[index] = self._compact(
                self._limits[index], walkers.structures[index], positions[batch.atoms(index)]
            )
        result: BoolArray = ~calm
        return result

    def _compact(self, limits: Limits, structure: Structure, positions: FloatArray) -> bool:
        """Whether a small molecule has no atoms that overlap or are alone; False: look closely."""
        if structure.periodic or not 2 <= len(positions) <= _SMALL:
            return False
        kind = structure.numbers.tobytes(), limits.min_distance_factor
        if kind not in self._nearest:
            radii = covalent_radii[structure.numbers]
            sums = (radii[:, None] + radii)[np.triu_indices(len(radii), 1)]
            self._nearest[kind] = limits.min_distance_factor * sums
        distances = pdist(positions)
        near = bool((distances >= self._nearest[kind]).all())
        return near and bool(distances.max() <= limits.max_separation_A)

    def frontier(self, walkers: Walkers, index: int, moments: list[Moment]) -> int:
        """Find the last sane moment of a walker by bisection.

        Args:
            walkers: that it is one of.
            index: which.
            moments: in order of time; the first is sane, the last is not.

        Returns:
            The number of a sane moment whose successor is not.
        """
        sane, insane = 0, len(moments) - 1
        while insane - sane > 1:
            middle = (sane + insane) // 2
            if self.complaint(walkers, index, moments[middle]) is None:
                sane = middle
            else:
                insane = middle
        return sane

    def _complaints(self, view: _View) -> Iterator[str]:
        limits = view.limits
        symbols = [chemical_symbols[number] for number in view.structure.numbers]
        for name, values in (("positions", view.positions), ("momenta", view.momenta)):
            if not np.isfinite(values).all():
                yield f"{name} are not finite"
        if not np.isfinite(view.forces).all():
            yield "forces are not finite"
        strength = np.abs(view.forces).max(axis=(0, 2))
        largest = int(strength.argmax())
        if strength[largest] >= limits.max_force_eV_per_A:
            yield (
                f"a force of {strength[largest]:.4g} eV/Å on atom {largest + 1} "
                f"({symbols[largest]}; limit {limits.max_force_eV_per_A:g} eV/Å)"
            )
        masses = atomic_masses[view.structure.numbers]
        # ASE's unit of time is not the fs.
        speeds = np.linalg.norm(view.momenta, axis=1) / masses * units.fs
        fastest = int(speeds.argmax())
        if speeds[fastest] > limits.max_speed_A_per_fs:
            yield (
                f"a speed of {speeds[fastest]:.3g} Å/fs of atom {fastest + 1} "
                f"({symbols[fastest]}; limit {limits.max_speed_A_per_fs:g} Å/fs)"
            )
        kinetic = float(((view.momenta**2).sum(axis=1) / masses).sum())
        temperature = kinetic / (max(view.degrees, 1) * units.kB)
        hottest = limits.hottest(view.temperature)
        if temperature > hottest:
            yield f"a temperature of {temperature:.0f} K (limit {hottest:.0f} K)"
        if view.start_volume and (what := _of_cell(view)):
            yield what
        structure = view.structure
        numbers, pbc = structure.numbers, structure.pbc
        if what := too_close(numbers, view.positions, view.cell, pbc, limits.min_distance_factor):
            yield what
        if not structure.periodic and (
            what := flown_off(numbers, view.positions, limits.max_separation_A)
        ):
            yield what


_SMALL = 300
"""Atoms up to which all distances are computed faster than those of near atoms are found."""

_FLATTEST = 0.05
"""Volume of a cell over the product of its edges; 0.71 for the primitive cell of an fcc crystal."""


@dataclass(frozen=True)
class _View:
    """One walker in a moment, as numpy arrays; see `Moment`."""

    structure: Structure
    positions: FloatArray
    momenta: FloatArray
    cell: FloatArray
    forces: FloatArray
    degrees: int
    temperature: float
    limits: Limits
    start_volume: float


def _of_cell(view: _View) -> str | None:
    volume, limit = abs(float(np.linalg.det(view.cell))), view.limits.max_volume_factor
    if not view.start_volume / limit < volume < view.start_volume * limit:
        return (
            f"a cell of {volume:.4g} Å^3, {volume / view.start_volume:.2g} times that of its "
            f"geometry (limit {limit:g} or 1/{limit:g})"
        )
    flatness = volume / float(np.prod(np.linalg.norm(view.cell, axis=1)))
    if flatness < _FLATTEST:
        return f"a cell so flat that its volume is {flatness:.2g} of its edges' product"
    return None
