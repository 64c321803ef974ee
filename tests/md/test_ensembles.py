"""Constant temperature and pressure: the distributions that statistical mechanics asks for.

All averages are compared within 4 standard errors, which come from walkers that know nothing of
each other: a right integrator fails one such test in 16,000, and the seeds are fixed.
"""

import numpy as np
import pytest
import torch
from ase import units
from md_walkers import integrator, start
from test_integrators import run

from fhi_al.atoms.structure import Structure
from fhi_al.md.barostats import BAROSTATS
from fhi_al.md.driver import Prediction
from fhi_al.md.thermostats import THERMOSTATS

KT = 300 * units.kB


def agrees(samples, expected, slack=0.0):
    """Whether the mean over (times, walkers) is what it should be, and known to be so."""
    means = np.asarray(samples).mean(0)
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert abs(means.mean() - expected) < 4 * error + slack, (means.mean(), expected, error)
    return error


@pytest.mark.parametrize("thermostat", sorted(THERMOSTATS))
def test_kinetic_energies_are_canonical(thermostat, ethanol, springs):
    """Mean and variance of the kinetic energy."""
    structure = Structure.from_atoms(ethanol)
    driver = springs(structure, constant=3.0)
    changes = {
        "thermostat": thermostat,
        "timestep_fs": 1.0,
        "friction_per_fs": 0.05,
        "thermostat_time_fs": 20.0,
    }
    walkers = start([structure] * 48, seed=3, **changes)
    warm_up = integrator(walkers, timestep_fs=1.0, friction_per_fs=0.05)
    for _ in run(walkers, driver, warm_up, 100):
        pass
    # Far from equilibrium: the thermostat has to get there.
    walkers.momenta.mul_(1.5)
    kinetic = []
    for step, _ in enumerate(run(walkers, driver, integrator(walkers, **changes), 1000)):
        if step >= 200:
            kinetic.append(walkers.kinetic_energies().numpy())
    degrees = 3 * len(structure) - 3
    mean = degrees * KT / 2
    assert agrees(kinetic, mean) < 0.015 * mean
    variance = (np.array(kinetic) - mean) ** 2
    expected = degrees * KT**2 / 2
    # Half a percent of the mean is the error of the time step, seen in the variance twofold.
    assert agrees(variance, expected, slack=0.02 * expected) < 0.05 * expected
    momenta = walkers.batch.sum(walkers.momenta)
    assert momenta.abs().max() < 1e-9


class Jelly:
    """Atoms that feel nothing in a box whose energy depends on its volume, and on its shape.

    The volume is distributed as `V^N exp(-(U(V) + P V) / kT)`, whatever the shape does.
    """

    device = torch.device("cpu")
    volume, modulus, shear = 200.0, 0.05, 4.0

    def __init__(self, structure):
        self.inverse = torch.linalg.inv(torch.tensor(np.array(structure.cell)))

    def neighbor_lists(self):
        return None

    def energy(self, volume):
        return self.modulus * (volume - self.volume) ** 2 / (2 * self.volume)

    def shear_energies(self, batch):
        left = self._left(batch)
        return self.shear * (left.diagonal(dim1=1, dim2=2).sum(1) - 3)

    def _left(self, batch):
        """The isochoric left Cauchy-Green tensor."""
        deformation = self.inverse @ batch.cells
        scale = torch.linalg.det(deformation) ** (-2 / 3)
        return deformation.transpose(1, 2) @ deformation * scale[:, None, None]

    def predict(self, batch, lists=None, *, stress=False):
        volumes = torch.linalg.det(batch.cells)
        eye = torch.eye(3, dtype=torch.float64)
        left = self._left(batch)
        deviator = left - left.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * eye
        tension = self.modulus * (volumes - self.volume) / self.volume
        total = tension[:, None, None] * eye + 2 * self.shear * deviator / volumes[:, None, None]
        return Prediction(
            energies=self.energy(volumes)[None],
            forces=torch.zeros((1, batch.n_atoms, 3), dtype=torch.float64),
            stress=total[None],
        )


@pytest.mark.parametrize(
    ("thermostat", "anisotropic"), [("langevin", False), ("bussi", True), ("nhc", False)]
)
@pytest.mark.parametrize("barostat", sorted(BAROSTATS))
def test_volumes_are_those_of_the_equation_of_state(barostat, thermostat, anisotropic):
    """Mean and variance of the volume of eight atoms, where single momenta matter."""
    random = np.random.default_rng(0)
    edge = Jelly.volume ** (1 / 3)
    structure = Structure([18] * 8, edge * random.random((8, 3)), edge * np.eye(3), [True] * 3)
    driver = Jelly(structure)
    pressure = 2 * units.GPa
    changes = {
        "ensemble": "npt",
        "thermostat": thermostat,
        "barostat": barostat,
        "timestep_fs": 2.0,
        "friction_per_fs": 0.02,
        "pressure": pressure,
        "compressibility": 1 / Jelly.modulus,
        "barostat_time_fs": 100.0,
        "anisotropic": anisotropic,
    }
    walkers = start([structure] * 48, seed=5, **changes)
    volumes, shears = [], []
    for step, _ in enumerate(run(walkers, driver, integrator(walkers, **changes), 1600)):
        if step >= 400:
            volumes.append(torch.linalg.det(walkers.batch.cells).numpy())
            shears.append(driver.shear_energies(walkers.batch).numpy())
    grid = np.linspace(50, 400, 20001)
    exponent = len(structure) * np.log(grid) - (driver.energy(grid) + pressure * grid) / KT
    weights = np.exp(exponent - exponent.max())
    mean = np.average(grid, weights=weights)
    variance = np.average((grid - mean) ** 2, weights=weights)
    assert agrees(volumes, mean) < 0.005 * mean
    squares = (np.array(volumes) - mean) ** 2
    assert agrees(squares, variance, slack=0.02 * variance) < 0.08 * variance
    if anisotropic:
        # Five nearly harmonic modes of the shape; the box is not turned.
        assert agrees(shears, 2.5 * KT, slack=0.08 * KT) < 0.06 * KT
        strain = driver.inverse @ walkers.batch.cells
        torch.testing.assert_close(strain, strain.transpose(1, 2), rtol=0.0, atol=0.1)
    else:
        torch.testing.assert_close(
            walkers.batch.cells / walkers.batch.cells[:, :1, :1],
            torch.eye(3, dtype=torch.float64).expand(48, 3, 3),
        )
