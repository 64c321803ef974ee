"""Integrators: ASE as referee for the trajectory, statistical mechanics for the temperature."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet as AseVelocityVerlet
from md_walkers import integrator, start

from fhi_al.atoms.structure import Structure
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.md.thermostats import THERMOSTATS


def run(walkers, driver, moves, n_steps, lists=None):
    """Move, and yield after every step."""
    stress = moves.needs_stress
    out = driver.predict(walkers.batch, lists, stress=stress)
    for _ in range(n_steps):
        moves.begin(walkers, out.forces.mean(0), out.stress.mean(0) if stress else None)
        out = driver.predict(walkers.batch, lists, stress=stress)
        moves.finish(walkers, out.forces.mean(0))
        walkers.steps += 1
        yield


def drift(totals, n_atoms):
    """eV per atom and ps, of total energies that are 10 steps of 0.5 fs apart."""
    return np.polyfit(0.005 * np.arange(len(totals)), totals, 1)[0] / n_atoms


def test_velocity_verlet_agrees_with_ase(tiny_models, ethanol, silicon):
    """A molecule and a crystal in one batch, neighbour lists searched anew; their energy drifts."""
    from mace.calculators import MACECalculator

    systems = [ethanol, silicon.repeat((2, 1, 1))]
    random = np.random.default_rng(1)
    for atoms in systems:
        # Fast, so that atoms leave each other's neighbourhood; the centre of mass at rest.
        masses = atoms.get_masses()[:, None]
        momenta = np.sqrt(masses * units.kB * 3000) * random.standard_normal((len(atoms), 3))
        atoms.set_momenta(momenta - masses * momenta.sum(0) / masses.sum())
    walkers = start(
        [Structure.from_atoms(atoms) for atoms in systems],
        ensemble="nve",
        velocities=[atoms.get_velocities() * units.fs for atoms in systems],
    )
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float64)
    lists = predictor.neighbor_lists()
    moves = integrator(walkers, ensemble="nve", timestep_fs=0.5)
    totals = []
    for step, _ in enumerate(run(walkers, predictor, moves, 200, lists), 1):
        if step % 10 == 0:
            potential = predictor.predict(walkers.batch).energies[0]
            totals.append((potential + walkers.kinetic_energies()).tolist())
    assert lists.n_searches >= 10
    for i, atoms in enumerate(systems):
        begin = atoms.positions.copy()
        atoms.calc = MACECalculator(models=tiny_models[:1], device="cpu", default_dtype="float64")
        md = AseVelocityVerlet(atoms, timestep=0.5 * units.fs)
        theirs = []
        for _ in range(20):
            md.run(10)
            theirs.append(atoms.get_total_energy())
        ours = [total[i] for total in totals]
        assert abs(drift(ours, len(atoms))) <= abs(drift(theirs, len(atoms))) + 1e-8
        assert np.abs(atoms.positions - begin).max() > 0.5
        np.testing.assert_allclose(
            walkers.positions[walkers.batch.atoms(i)], atoms.positions, rtol=0, atol=1e-9
        )
        np.testing.assert_allclose(
            walkers.momenta[walkers.batch.atoms(i)], atoms.get_momenta(), rtol=0, atol=1e-8
        )


def mean_and_error(samples):
    """Mean over time and walkers; its standard error from the independent walkers' means."""
    means = np.array(samples).mean(0)
    return means.mean(), means.std(ddof=1) / np.sqrt(len(means))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("kind", ["molecule", "crystal"])
def test_langevin_holds_the_temperature(kind, fixed, ethanol, springs, wells):
    """Kinetic temperature and potential energy are canonical within 4 standard errors.

    32 walkers; the temperature's error is below 1 %, where ASE's Langevin is 21 % too hot.
    """
    if kind == "molecule":
        structure = Structure.from_atoms(ethanol)
        mask = np.arange(len(structure)) < 2 if fixed else None
        driver = springs(structure, constant=3.0)
        # Nine atoms at the bottom of stiff springs: 3N - 6 harmonic modes.
        vibrations = 3 * len(structure) - 6
    else:
        atoms = bulk("Si", a=5.43, cubic=True)
        structure = Structure.from_atoms(atoms)
        mask = np.arange(len(structure)) < 3 if fixed else None
        driver = wells(structure)
        vibrations = 3 * (len(structure) - (3 if fixed else 0))
    structure = Structure(
        structure.numbers, structure.positions, structure.cell, structure.pbc, fixed=mask
    )
    temperature = 300.0
    walkers = start([structure] * 32, temperature=temperature, seed=7)
    moves = integrator(walkers, timestep_fs=1.0, friction_per_fs=0.05)
    beginning = walkers.positions.clone()
    temperatures, energies = [], []
    for step, _ in enumerate(run(walkers, driver, moves, 1500)):
        if step >= 200:
            temperatures.append(walkers.kinetic_temperatures())
            if step % 10 == 0:
                energies.append(driver.predict(walkers.batch).energies[0].numpy())
    mean, error = mean_and_error(temperatures)
    assert error < 0.01 * temperature
    assert abs(mean - temperature) < 4 * error
    if not (kind == "molecule" and fixed):
        mean, error = mean_and_error(energies)
        expected = vibrations * units.kB * temperature / 2
        # Springs between atoms are slightly anharmonic.
        assert abs(mean - expected) < 4 * error + 0.01 * expected
    if fixed:
        held = walkers.fixed
        assert torch.equal(walkers.positions[held], beginning[held])
        assert not torch.equal(walkers.positions[~held], beginning[~held])
    if kind == "molecule" and not fixed:
        masses = walkers.masses[:, None]
        drift = walkers.batch.sum(masses * (walkers.positions - beginning))
        assert drift.abs().max() < 1e-9


def test_every_trajectory_has_its_own_noise(ethanol, springs):
    structure = Structure.from_atoms(ethanol)
    walkers = start([structure] * 3, seed=7)
    moves = integrator(walkers, timestep_fs=1.0, friction_per_fs=0.05)
    walkers.momenta.zero_()
    for _ in run(walkers, springs(structure), moves, 3):
        pass
    positions = walkers.positions.reshape(3, -1)
    assert np.abs(np.corrcoef(positions - positions.mean(0)) - np.eye(3)).max() < 0.9
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        assert (positions[i] - positions[j]).abs().max() > 1e-4


@pytest.mark.parametrize("thermostat", sorted(THERMOSTATS))
def test_a_trajectory_doesnt_depend_on_its_company(thermostat, ethanol, springs):
    structure = Structure.from_atoms(ethanol)
    driver = springs(structure)
    results = []
    for trajectories in ([0, 1, 2, 3], [2]):
        walkers = start([structure] * len(trajectories), trajectories, thermostat=thermostat)
        for _ in run(walkers, driver, integrator(walkers, thermostat=thermostat), 20):
            pass
        results.append(walkers.structure(trajectories.index(2)).positions)
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("thermostat", [None, *sorted(THERMOSTATS)])
def test_fixed_atoms_hold(thermostat, ethanol, springs):
    fixed = np.zeros(9, dtype=bool)
    fixed[[0, 4]] = True
    free = Structure.from_atoms(ethanol)
    structure = Structure(free.numbers, free.positions, fixed=fixed)
    changes = {"thermostat": thermostat} if thermostat else {"ensemble": "nve"}
    walkers = start([structure, free], temperature=500.0, **changes)
    beginning = walkers.positions.clone()
    for _ in run(walkers, springs(structure), integrator(walkers, **changes), 20):
        pass
    moved = (walkers.positions != beginning).any(1).numpy()
    assert moved[:9].tolist() == (~fixed).tolist()
    assert moved[9:].all()
    assert not walkers.momenta[walkers.fixed].any()


def test_energy_is_conserved(ethanol, springs):
    structure = Structure.from_atoms(ethanol)
    driver = springs(structure)
    walkers = start([structure] * 2, seed=3, ensemble="nve")
    totals = []
    for _ in run(walkers, driver, integrator(walkers, ensemble="nve", timestep_fs=0.25), 2000):
        totals.append(walkers.kinetic_energies() + driver.predict(walkers.batch).energies[0])
    totals = torch.stack(totals)
    assert (totals[-100:].mean(0) - totals[:100].mean(0)).abs().max() < 1e-4
    assert totals.std(0).max() < 2e-3 * totals.mean()
