"""Barostats: what changes the cell, in the middle of each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol as Interface

import numpy as np
import torch
from ase import units
from scipy.linalg import expm

from fhi_al.md.protocol import Protocol
from fhi_al.md.walker import Walkers
from fhi_al.structure import FloatArray


class Barostat(Interface):
    """What every entry of `BAROSTATS` makes."""

    def __init__(
        self, walkers: Walkers, indices: Sequence[int], protocols: Sequence[Protocol]
    ) -> None:
        """Prepare.

        Args:
            walkers: the whole batch.
            indices: of the walkers that it acts on; periodic, without fixed atoms.
            protocols: of these, in the same order.
        """

    def act(self, walkers: Walkers, stress: torch.Tensor) -> None:
        """Change cells, positions and momenta, in place, as in one time step.

        Args:
            walkers: at their present `temperatures` and `pressures`.
            stress: (walkers, 3, 3) of the forces, in eV/Å^3, ASE's sign.
        """


class StochasticCellRescaling:
    """First-order dynamics of the cell, with the noise that makes volumes canonical.

    Isotropic: the root of the volume, for which the noise doesn't depend on the volume, by an
    Euler step. Anisotropic: the cell by the exponential of the strain; the part of the strain that
    is a rotation is taken out, which turns the system as a whole. Positions scale with the cell,
    momenta against it.

    Where the centre of mass is held at rest, its ideal-gas pressure `kB T / V` is added, so that
    the distribution of volumes is that of N atoms.

    Source: Bernetti, Bussi, J. Chem. Phys. 153, 114107 (2020); Del Tatto, Raiteri, Bernetti,
        Bussi, Appl. Sci. 12, 1139 (2022).
    """

    def __init__(
        self, walkers: Walkers, indices: Sequence[int], protocols: Sequence[Protocol]
    ) -> None:
        self._indices = list(indices)
        self._rates = [p.timestep_fs / p.barostat_time_fs * p.compressibility for p in protocols]
        self._anisotropic = [p.anisotropic for p in protocols]

    def act(self, walkers: Walkers, stress: torch.Tensor) -> None:
        """Draw a new cell for each walker."""
        device = walkers.batch.device
        velocities = walkers.momenta / walkers.masses[:, None]
        flux = walkers.batch.sum(walkers.momenta[:, :, None] * velocities[:, None, :])
        fluxes, stresses = flux.cpu().numpy(), stress.cpu().numpy()
        cells = walkers.batch.cells.cpu().numpy()
        strains = np.tile(np.eye(3), (len(walkers), 1, 1))
        for index, rate, anisotropic in zip(
            self._indices, self._rates, self._anisotropic, strict=True
        ):
            volume = abs(float(np.linalg.det(cells[index])))
            thermal = units.kB * float(walkers.temperatures[index]) / volume
            inside = fluxes[index] / volume - stresses[index]
            if walkers.at_rest[index]:
                inside = inside + thermal * np.eye(3)
            excess = inside - walkers.pressures[index] * np.eye(3)
            move = _shape if anisotropic else _size
            strains[index] = move(excess, thermal, rate, walkers.generators[index])
        strain = torch.from_numpy(strains).to(device)
        owner = walkers.batch.structure_index
        back = torch.linalg.inv(strain)
        walkers.batch.cells.copy_(walkers.batch.cells @ strain)
        walkers.positions.copy_(torch.einsum("ai,aij->aj", walkers.positions, strain[owner]))
        walkers.momenta.copy_(torch.einsum("ai,aij->aj", walkers.momenta, back[owner]))


def _size(
    excess: FloatArray, thermal: float, rate: float, random: np.random.Generator
) -> FloatArray:
    """The factor of all lengths in one time step.

    Args:
        excess: (3, 3) pressure inside less that outside, in eV/Å^3.
        thermal: kB T / V in eV/Å^3.
        rate: compressibility times time step over relaxation time, in Å^3/eV.
        random: for the noise.
    """
    drift = rate / 2 * (float(np.trace(excess)) / 3 + thermal / 2)
    # The square root of the new volume over the old one.
    root = 1 + drift + np.sqrt(rate * thermal / 2) * random.standard_normal()
    factor: FloatArray = root ** (2 / 3) * np.eye(3)
    return factor


def _shape(
    excess: FloatArray, thermal: float, rate: float, random: np.random.Generator
) -> FloatArray:
    """The symmetric (3, 3) deformation in one time step; arguments as above."""
    noise = np.sqrt(2 * rate * thermal / 3) * random.standard_normal((3, 3))
    # With the exponential, the drift that is due to noise (Itô's) comes by itself.
    deformation = expm(rate / 3 * excess + noise)
    values, vectors = np.linalg.eigh(deformation.T @ deformation)
    stretch: FloatArray = (vectors * np.sqrt(values)) @ vectors.T
    return stretch


BAROSTATS: dict[str, type[Barostat]] = {"scr": StochasticCellRescaling}
"""Ways to hold the pressure."""
