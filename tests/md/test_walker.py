"""The state of walkers: velocities at the start, files, resets."""

import numpy as np
import pytest
import torch
from ase import units
from md_walkers import integrator, start

from fhi_al.atoms.structure import Structure, structure_key
from fhi_al.errors import JournalError
from fhi_al.md.walker import STREAMS, generator
from fhi_al.md.walkers_file import load_walkers, save_walkers


@pytest.fixture
def structure(ethanol):
    return Structure.from_atoms(ethanol)


@pytest.fixture
def crystal(silicon):
    return Structure.from_atoms(silicon)


def test_initial_velocities_are_maxwell_boltzmann(structure, crystal):
    """Temperature of 500 walkers within 4 standard errors, and its canonical variance."""
    for one, count in ((structure, 500), (crystal, 2000)):
        walkers = start([one] * count, temperature=400.0, seed=5)
        degrees = walkers.degrees_of_freedom()
        assert (degrees == (24 if one is structure else 6)).all()
        temperatures = walkers.kinetic_temperatures()
        spread = 400.0 * np.sqrt(2 / degrees[0])
        assert abs(temperatures.mean() - 400.0) < 4 * spread / np.sqrt(count)
        assert temperatures.std() == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("thermostat", ["bussi", "nhc"])
def test_centre_of_mass_is_at_rest_where_it_should_be(thermostat, structure, crystal):
    def total(walkers):
        return walkers.batch.sum(walkers.momenta).abs().amax(1).numpy()

    at_rest = total(start([structure, crystal], seed=1))
    assert at_rest[0] < 1e-14
    assert at_rest[1] > 0.1
    walkers = start([structure, crystal], seed=1, thermostat=thermostat)
    assert total(walkers).max() < 1e-13
    assert walkers.degrees_of_freedom().tolist() == [24, 3]


def test_given_velocities_are_in_angstrom_per_fs(structure):
    velocities = np.zeros((9, 3))
    velocities[0], velocities[1] = [0.01, 0, 0], [-0.01, 0, 0]
    walkers = start([structure], velocities=[velocities])
    assert walkers.momenta.sum(0).abs().max() < 1e-12
    # Both are carbon.
    expected = 2 * 0.5 * 12.011 * (0.01 / units.fs) ** 2
    assert walkers.kinetic_energies()[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"thermostat": "langevin"},
        {"thermostat": "bussi"},
        {"thermostat": "nhc"},
        {"ensemble": "npt", "pressure": 0.01},
    ],
)
def test_walkers_survive_a_file_bit_by_bit(changes, structure, crystal, tmp_path):
    magnetic = Structure(
        crystal.numbers,
        crystal.positions,
        crystal.cell,
        crystal.pbc,
        magmoms=[1.0, -1.0],
        fixed=[True, False],
    )
    if changes.get("ensemble") == "npt":
        structure, magnetic = crystal, crystal
    walkers = start([structure, magnetic], [4, 7], seed=2, **changes)
    walkers.steps[:] = [11, 12]

    def move(walkers):
        forces = -0.1 * walkers.positions
        moves = integrator(walkers, **changes)
        for _ in range(5):
            moves.begin(walkers, forces, torch.zeros((2, 3, 3)).double())
            moves.finish(walkers, forces)

    move(walkers)
    walkers.half_stepped = True
    save_walkers(walkers, tmp_path / "walkers.h5")
    loaded = load_walkers(tmp_path / "walkers.h5")
    for one in (0, 1):
        assert structure_key(loaded.structure(one), "") == structure_key(walkers.structure(one), "")
        assert np.array_equal(loaded.structure(one).fixed, walkers.structure(one).fixed)
    assert loaded.half_stepped
    assert loaded.trajectories.tolist() == [4, 7]
    assert loaded.steps.tolist() == [11, 12]
    move(walkers)
    move(loaded)
    assert torch.equal(loaded.positions, walkers.positions)
    assert torch.equal(loaded.momenta, walkers.momenta)
    assert torch.equal(loaded.batch.cells, walkers.batch.cells)
    assert np.array_equal(loaded.chains, walkers.chains)
    assert walkers.chains.any() == (changes.get("thermostat") == "nhc")
    assert np.array_equal(loaded.pressures, walkers.pressures)
    assert np.array_equal(loaded.kinetic_temperatures(), walkers.kinetic_temperatures())


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(JournalError, match=r"gone\.h5 is missing"):
        load_walkers(tmp_path / "gone.h5")
    (tmp_path / "bad.h5").write_bytes(b"nothing of use")
    with pytest.raises(JournalError, match=r"bad\.h5 can't be read"):
        load_walkers(tmp_path / "bad.h5")


def test_selected_walkers_come_back_to_their_place(structure, crystal):
    walkers = start([structure, crystal, structure], seed=2)
    before = walkers.positions.clone()
    part = walkers.select([2, 1])
    assert part.trajectories.tolist() == [2, 1]
    assert part.structure(1).numbers.tolist() == [14, 14]
    part.positions.add_(1.0)
    part.steps += 3
    assert torch.equal(walkers.positions, before)
    walkers.assign(part)
    assert torch.equal(walkers.positions[:9], before[:9])
    assert torch.equal(walkers.positions[9:], before[9:] + 1.0)
    assert walkers.steps.tolist() == [0, 3, 3]


def test_reset_gives_new_velocities(structure, crystal):
    walkers = start([structure, crystal], seed=2)
    momenta = walkers.momenta.clone()
    walkers.positions.add_(1.0)
    walkers.reset(0, structure)
    assert np.array_equal(walkers.structure(0).positions, structure.positions)
    assert (walkers.momenta[:9] != momenta[:9]).all()
    assert walkers.momenta[:9].sum(0).abs().max() < 1e-14
    assert torch.equal(walkers.momenta[9:], momenta[9:])
    with pytest.raises(JournalError, match=r"trajectory 1 .* other atoms"):
        walkers.reset(1, structure)


def test_generators_are_unrelated():
    drawn = {
        generator(seed, stream, index).integers(2**62)
        for seed in (0, 1)
        for stream in STREAMS
        for index in range(10)
    }
    assert len(drawn) == 2 * len(STREAMS) * 10
