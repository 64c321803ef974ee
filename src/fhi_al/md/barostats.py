"""Barostats: what changes the cell, in the middle of each step.

Importing this imports neither torch nor ASE, which methods do where they need them: settings and
reports read what stands in `BAROSTATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fhi_al.record.registry import Choice, Citation, Registry

if TYPE_CHECKING:
    import torch

    from fhi_al.atoms.structure import FloatArray
    from fhi_al.md.protocol import MdProtocol
    from fhi_al.md.walker import Walkers


class Barostat(Protocol):
    """What the class of every entry of `BAROSTATS` makes."""

    def __init__(
        self, walkers: Walkers, indices: Sequence[int], protocols: Sequence[MdProtocol]
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
        self, walkers: Walkers, indices: Sequence[int], protocols: Sequence[MdProtocol]
    ) -> None:
        self._indices = list(indices)
        self._rates = np.array(
            [p.timestep_fs / p.barostat_time_fs * p.compressibility for p in protocols]
        )
        self._anisotropic = np.array([p.anisotropic for p in protocols])

    def act(self, walkers: Walkers, stress: torch.Tensor) -> None:
        """Draw a new cell for each walker."""
        import torch
        from ase import units

        chosen, owner = self._indices, walkers.batch.structure_index
        velocities = walkers.momenta / walkers.masses[:, None]
        flux = walkers.batch.sum(walkers.momenta[:, :, None] * velocities[:, None, :])
        volumes = torch.linalg.det(walkers.batch.cells[chosen]).abs().cpu().numpy()[:, None, None]
        thermal = units.kB * walkers.temperatures[chosen, None, None] / volumes
        excess = flux[chosen].cpu().numpy() / volumes - stress[chosen].cpu().numpy()
        outside = (
            walkers.pressures[chosen, None, None] - thermal * walkers.at_rest[chosen, None, None]
        )
        excess = excess - outside * np.eye(3)
        noise = np.stack([walkers.generators[i].standard_normal((3, 3)) for i in chosen])
        rates = self._rates[:, None, None]
        strains = np.tile(np.eye(3), (len(walkers), 1, 1))
        strains[chosen] = np.where(
            self._anisotropic[:, None, None],
            _shape(excess, thermal, rates, noise),
            _size(excess, thermal, rates, noise),
        )
        strain = torch.from_numpy(strains).to(walkers.batch.device)
        back = torch.linalg.inv(strain)
        walkers.batch.cells.copy_(walkers.batch.cells @ strain)
        walkers.positions.copy_(torch.einsum("ai,aij->aj", walkers.positions, strain[owner]))
        walkers.momenta.copy_(torch.einsum("ai,aij->aj", walkers.momenta, back[owner]))


def _size(
    excess: FloatArray, thermal: FloatArray, rates: FloatArray, noise: FloatArray
) -> FloatArray:
    """The (walkers, 3, 3) deformations in one time step that change volumes only.

    Args:
        excess: (walkers, 3, 3) pressure inside less that outside, in eV/Å^3.
        thermal: (walkers, 1, 1) kB T / V in eV/Å^3.
        rates: (walkers, 1, 1) compressibility times time step over relaxation time, in Å^3/eV.
        noise: (walkers, 3, 3) standard normal deviates; one of each nine is used.
    """
    pressure = np.trace(excess, axis1=1, axis2=2)[:, None, None] / 3
    # The square root of the new volume over the old one.
    root = (
        1 + rates / 2 * (pressure + thermal / 2) + np.sqrt(rates * thermal / 2) * noise[:, :1, :1]
    )
    factors: FloatArray = np.abs(root) ** (2 / 3) * np.eye(3)
    return factors


def _shape(
    excess: FloatArray, thermal: FloatArray, rates: FloatArray, noise: FloatArray
) -> FloatArray:
    """The symmetric (walkers, 3, 3) deformations in one time step; arguments as above."""
    import torch

    # With the exponential, the drift that is due to noise (Itô's) comes by itself.
    logarithm = rates / 3 * excess + np.sqrt(2 * rates * thermal / 3) * noise
    deformation = torch.linalg.matrix_exp(torch.from_numpy(logarithm)).numpy()
    values, vectors = np.linalg.eigh(deformation.transpose(0, 2, 1) @ deformation)
    stretch: FloatArray = (vectors * np.sqrt(values)[:, None, :]) @ vectors.transpose(0, 2, 1)
    return stretch


BERNETTI_2020 = Citation(
    "Bernetti2020",
    r"""@article{Bernetti2020,
  author = {Bernetti, Mattia and Bussi, Giovanni},
  title = {Pressure control using stochastic cell rescaling},
  journal = {J. Chem. Phys.},
  volume = {153},
  pages = {114107},
  year = {2020},
  doi = {10.1063/5.0020514}
}""",
)

BAROSTATS = Registry[Choice[type[Barostat]]](
    "a barostat",
    {
        "scr": Choice(
            StochasticCellRescaling,
            "stochastic cell rescaling",
            citations=(BERNETTI_2020,),
            needs=frozenset({"stress", "periodicity"}),
            settings=("cell_change", "compressibility_per_GPa", "barostat_time_fs"),
        ),
    },
)
"""Ways to hold the pressure; `MD.barostat` chooses one."""
