"""The committee's predictions, with mace's own calculator as referee."""

import logging
from copy import deepcopy

import numpy as np
import pytest
import torch
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import Structure
from fhi_al.ensemble.predict import CalculatorDriver, CommitteePredictor
from fhi_al.md.uncertainty import UNCERTAINTIES


def batch_of(*atoms):
    return Batch.from_structures([Structure.from_atoms(a) for a in atoms])


def referee(models, atoms):
    from mace.calculators import MACECalculator

    energies, forces, stresses = [], [], []
    for model in models:
        atoms = atoms.copy()
        atoms.calc = MACECalculator(models=[model], device="cpu", default_dtype="float64")
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
        if atoms.pbc.all():
            stresses.append(atoms.get_stress(voigt=False))
    return np.array(energies), np.array(forces), np.array(stresses)


def slab():
    atoms = fcc111("Si", (2, 1, 2), a=3.9, vacuum=6.0)
    add_adsorbate(atoms, "H", 1.5, "ontop")
    atoms.set_constraint()
    atoms.rattle(0.05, seed=3)
    return atoms


def small_memory(models, most):
    """Models that run out of memory as a GPU does, for more than so many structures."""

    def refuse(module, args):
        if len(args[0]["head"]) > most:
            raise torch.cuda.OutOfMemoryError("too many structures")

    models = deepcopy(models)
    for model in models:
        model.register_forward_pre_hook(refuse)
    return models


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_mixed_batch_equals_mace_calculator(tiny_models, ethanol, silicon, one_by_one):
    systems = [ethanol, silicon, slab()]
    expected = [referee(tiny_models, atoms) for atoms in systems]
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64, one_by_one=one_by_one)
    batch = batch_of(*systems)
    out = predictor.predict(batch, stress=True)
    assert out.energies.shape == (3, 3)
    for i, (energies, forces, stress) in enumerate(expected):
        np.testing.assert_allclose(out.energies[:, i], energies, atol=1e-10)
        np.testing.assert_allclose(out.forces[:, batch.atoms(i)], forces, atol=1e-10)
        assert np.abs(forces).max() > 0.01
        if len(stress):
            np.testing.assert_allclose(out.stress[:, i], stress, atol=1e-12)
            assert np.abs(stress).max() > 1e-4
    assert not out.stress[:, 0].any()


def test_one_by_one_gives_the_same_bits_in_every_company(tiny_models, ethanol, silicon):
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64, one_by_one=True)
    alone = predictor.predict(batch_of(ethanol))
    among = predictor.predict(batch_of(silicon, ethanol, silicon))
    assert torch.equal(among.forces[:, 2:11], alone.forces)
    assert torch.equal(among.energies[:, 1], alone.energies[:, 0])


def test_a_batch_that_does_not_fit_is_split(tiny_models, ethanol, silicon, caplog):
    caplog.set_level(logging.INFO, "fhi_al")
    systems = [ethanol, silicon, slab(), ethanol, slab()]
    whole = CommitteePredictor(tiny_models, dtype=torch.float64)
    expected = whole.predict(batch_of(*systems), stress=True)
    predictor = CommitteePredictor(small_memory(tiny_models, most=2), dtype=torch.float64)
    for _ in range(2):
        out = predictor.predict(batch_of(*systems), stress=True)
        np.testing.assert_allclose(out.energies, expected.energies, atol=1e-10)
        np.testing.assert_allclose(out.forces, expected.forces, atol=1e-10)
        np.testing.assert_allclose(out.stress, expected.stress, atol=1e-12)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "5 structures at a time don't fit into the memory of cpu: 3 from now on",
        "3 structures at a time don't fit into the memory of cpu: 2 from now on",
    ]


def test_a_structure_that_does_not_fit_alone_is_an_error(tiny_models, ethanol):
    predictor = CommitteePredictor(small_memory(tiny_models, most=0), dtype=torch.float64)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="too many"):
        predictor.predict(batch_of(ethanol, ethanol))


def test_float32_is_close_and_far_from_the_origin_no_worse(tiny_models, ethanol):
    exact = CommitteePredictor(tiny_models, dtype=torch.float64).predict(batch_of(ethanol))
    predictor = CommitteePredictor(tiny_models, dtype=torch.float32)
    ethanol.positions += 5000.0
    out = predictor.predict(batch_of(ethanol))
    assert out.forces.dtype == torch.float64
    np.testing.assert_allclose(out.forces, exact.forces, atol=2e-5)


def test_load_takes_other_weights(tiny_models, ethanol):
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float64)
    first = predictor.predict(batch_of(ethanol)).forces
    predictor.load(tiny_models[1:2])
    second = predictor.predict(batch_of(ethanol)).forces
    assert (first - second).abs().max() > 0.01
    both = CommitteePredictor(tiny_models[:2], dtype=torch.float64)
    assert torch.equal(both.predict(batch_of(ethanol)).forces, torch.cat([first, second]))


def test_atoms_without_neighbours_feel_nothing(tiny_models, ethanol):
    ethanol.positions *= 100.0
    out = CommitteePredictor(tiny_models, dtype=torch.float64).predict(batch_of(ethanol))
    assert not out.forces.any()


def test_a_calculator_is_a_committee_of_one(silicon):
    cu = silicon.copy()
    cu.symbols[:] = "Cu"
    cu = cu.repeat((2, 1, 1))
    molecule = cu.copy()
    molecule.pbc = False
    molecule.cell = None
    out = CalculatorDriver(EMT()).predict(batch_of(cu, molecule), stress=True)
    cu.calc = EMT()
    molecule.calc = EMT()
    np.testing.assert_array_equal(out.energies[0, 0], cu.get_potential_energy())
    np.testing.assert_array_equal(out.forces[0, :4], cu.get_forces())
    np.testing.assert_array_equal(out.forces[0, 4:], molecule.get_forces())
    np.testing.assert_allclose(out.stress[0, 0], cu.get_stress(voigt=False))


def test_uncertainties_have_their_closed_forms():
    """Two members that differ by 2 d on one component: the spread is d / sqrt(3)."""
    batch = Batch.from_structures(
        [Structure([1, 1], np.zeros((2, 3))), Structure([1], [[0, 0, 0]])]
    )
    forces = torch.zeros((2, 3, 3), dtype=torch.float64)
    forces[:, 0, 1] = torch.tensor([1.0, 3.0])
    forces[:, 1, :] = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    forces[:, 2, 0] = torch.tensor([0.0, 0.6])
    mobile = torch.ones(3, dtype=torch.bool)
    largest = UNCERTAINTIES["max_atomic_sd"].load()(forces, batch, mobile)
    mean = UNCERTAINTIES["mean_atomic_sd"].load()(forces, batch, mobile)
    np.testing.assert_allclose(largest, [1 / np.sqrt(3), 0.3 / np.sqrt(3)])
    np.testing.assert_allclose(mean, [(1 / np.sqrt(3) + 0.5) / 2, 0.3 / np.sqrt(3)])
    mobile[0] = False
    np.testing.assert_allclose(
        UNCERTAINTIES["max_atomic_sd"].load()(forces, batch, mobile), [0.5, 0.3 / np.sqrt(3)]
    )
    np.testing.assert_allclose(
        UNCERTAINTIES["mean_atomic_sd"].load()(forces, batch, mobile), [0.5, 0.3 / np.sqrt(3)]
    )


def test_the_stress_counts_where_it_is_the_larger_doubt():
    """Two members whose pressures differ by 2 d: the spread is d / sqrt(3) a component."""
    crystal = Structure([14], np.zeros((1, 3)), 3.0 * np.eye(3), [True] * 3)
    batch = Batch.from_structures([crystal, Structure([1], np.zeros((1, 3)))])
    forces = torch.zeros((2, 2, 3), dtype=torch.float64)
    forces[1, :, 0] = 0.3
    stress = torch.zeros((2, 2, 3, 3), dtype=torch.float64)
    stress[1, 0] = 2 * 0.1 * torch.eye(3)
    mobile = torch.ones(2, dtype=torch.bool)
    u = UNCERTAINTIES["max_atomic_sd_stress"].load()(forces, batch, mobile, stress)
    np.testing.assert_allclose(u, [9.0 * 0.1 / np.sqrt(3), 0.15 / np.sqrt(3)])
    u = UNCERTAINTIES["max_atomic_sd_stress"].load()(forces, batch, mobile)
    np.testing.assert_allclose(u, 0.15 / np.sqrt(3))


def test_one_member_alone(tiny_models, silicon):
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    batch = Batch.from_structures([Structure.from_atoms(silicon)])
    everyone = predictor.predict(batch, stress=True)
    first = predictor.predict(batch, stress=True, only_first=True)
    for name in ("energies", "forces", "stress"):
        assert torch.equal(getattr(first, name), getattr(everyone, name)[:1])


@pytest.mark.parametrize("name", sorted(UNCERTAINTIES))
def test_members_that_agree_are_certain(name):
    batch = Batch.from_structures([Structure([1, 1], np.zeros((2, 3)))])
    forces = torch.randn((1, 2, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mobile = torch.ones(2, dtype=torch.bool)
    assert not UNCERTAINTIES[name].load()(forces.repeat(4, 1, 1), batch, mobile).any()
    assert not UNCERTAINTIES[name].load()(forces, batch, ~mobile).any()
