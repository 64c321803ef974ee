"""Labels as MACE's graphs, and as files."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from ensemble_runs import crystals, label, molecules
from mace.data import KeySpecification, config_from_atoms
from mace.tools.torch_geometric.dataloader import DataLoader

from fhi_al.ensemble.data import Graphs, collate, configuration, count, shuffled, stacked
from fhi_al.ensemble.frames import read_labels, write_labels
from fhi_al.errors import InputError
from fhi_al.fast.padding import INPUTS


def graphs(**changes) -> Graphs:
    settings = {"stress": True, "config_type_weights": {}, **changes}
    return Graphs(None, (1, 6, 8, 29, 79), 4.0, "float64", **settings)


def test_energies_forces_and_stress_arrive_in_maces_units_and_order():
    item = crystals()[0]
    graph = graphs().build(item)
    assert graph.energy.item() == item.energy
    np.testing.assert_array_equal(graph.forces.numpy(), item.forces)
    xx, yy, zz, yz, xz, xy = item.stress
    np.testing.assert_array_equal(
        graph.stress.numpy()[0], [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
    )


def test_virials_are_minus_the_derivative_of_the_energy_by_strain():
    """The referee is EMT's energy under small strains."""
    atoms = crystals()[0].structure.to_atoms()
    virials = graphs().build(crystals()[0]).virials.numpy()[0]

    def energy(strain: np.ndarray) -> float:
        strained = atoms.copy()
        strained.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
        strained.calc = EMT()
        return strained.get_potential_energy()

    for i, j in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = 1e-4 if i == j else 0.5e-4
        derivative = (energy(strain) - energy(-strain)) / 2e-4
        assert virials[i, j] == pytest.approx(-derivative, rel=1e-3, abs=1e-3)


def test_neighbours_are_all_pairs_within_the_cutoff_images_included():
    atoms = bulk("Cu", "fcc", a=3.6)  # one atom, cell shorter than the cutoff
    graph = graphs().build(label(atoms))
    assert graph.edge_index.shape[1] == 12 + 6  # at 2.55 and 3.6 Å
    lengths = np.linalg.norm(graph.shifts.numpy(), axis=1)
    assert np.sort(np.unique(lengths.round(6))).tolist() == [2.545584, 3.6]


@pytest.mark.parametrize("labels", [molecules(4), crystals(3)])
def test_items_are_stacked_as_mace_does(labels):
    own = [graphs().build(label) for label in labels]
    batch = collate(own)
    names = [*INPUTS, "weight", "energy", "forces", "stress", "virials", "forces_weight"]
    found = stacked(own, names)
    assert list(found) == names
    for name in names:
        torch.testing.assert_close(found[name], batch[name], rtol=0, atol=0)


def test_graphs_are_shuffled_as_mace_does():
    own = [graphs().build(label) for label in molecules(7)]
    ours = shuffled(own, 3, torch.Generator().manual_seed(5))
    theirs = DataLoader(own, 3, shuffle=True, generator=torch.Generator().manual_seed(5))
    for hand, batch in zip(ours, theirs, strict=True):
        torch.testing.assert_close(collate(hand).positions, batch.positions, rtol=0, atol=0)


def test_what_a_label_lacks_has_no_weight():
    molecule, crystal = graphs().build(molecules()[0]), graphs().build(crystals()[0])
    assert molecule.stress_weight == molecule.virials_weight == 0
    assert crystal.stress_weight == crystal.virials_weight == 1
    blind = graphs(stress=False).build(crystals()[0])
    assert blind.stress_weight == blind.virials_weight == 0
    found = count([molecule, crystal, blind])
    assert (found.structures, found.energies, found.forces, found.stress) == (3, 3, 3, 1)
    weightless = graphs(config_type_weights={"Default": 0.0}).build(molecules()[0])
    assert count([weightless]).forces == 0


def test_config_types_weigh():
    surface = label(molecules()[0].structure.to_atoms(), config_type="surface")
    weights = {"surface": 0.25}
    assert configuration(surface, config_type_weights=weights).weight == 0.25
    assert configuration(molecules()[0], config_type_weights=weights).weight == 1.0


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [molecules, crystals])
def test_what_is_written_is_read_by_us_and_by_mace(tmp_path, labels):
    labels = labels()
    path = tmp_path / "data.xyz"
    write_labels(path, [(item, {"used_as": "train of all"}) for item in labels])
    again, digest = read_labels(path)
    assert digest.startswith("imported:")
    frames = read(path, ":")
    keys = KeySpecification.from_defaults()
    for old, new, atoms in zip(labels, again, frames, strict=True):
        theirs = config_from_atoms(atoms, keys)
        assert new.energy == pytest.approx(old.energy, abs=1e-9)
        assert theirs.properties["energy"] == new.energy
        np.testing.assert_allclose(new.forces, old.forces, atol=1e-7)
        np.testing.assert_array_equal(theirs.properties["forces"], new.forces)
        np.testing.assert_allclose(new.structure.positions, old.structure.positions, atol=1e-7)
        assert (new.stress is None) == (old.stress is None)
        if old.stress is not None:
            np.testing.assert_allclose(new.stress, old.stress, rtol=1e-12)
            np.testing.assert_array_equal(theirs.properties["stress"], new.stress)
        assert atoms.info["fhi_al_key"] == old.key
        assert atoms.info["fhi_al_engine"] == "EMT"
        assert atoms.calc is None


def test_results_as_ase_writes_them_are_read(tmp_path):
    atoms = crystals()[0].structure.to_atoms()
    atoms.calc = EMT()
    atoms.get_forces()
    atoms.get_stress()
    write(tmp_path / "emt.traj", atoms)
    (item,), _ = read_labels(tmp_path / "emt.traj")
    assert item.energy == crystals()[0].energy
    np.testing.assert_array_equal(item.forces, crystals()[0].forces)
    np.testing.assert_array_equal(item.stress, crystals()[0].stress)


def test_a_full_stress_matrix_is_read(tmp_path):
    atoms = crystals()[0].structure.to_atoms()
    xx, yy, zz, yz, xz, xy = crystals()[0].stress
    atoms.info["REF_energy"] = 1.0
    atoms.arrays["REF_forces"] = np.zeros((4, 3))
    atoms.info["REF_stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    write(tmp_path / "full.xyz", atoms)
    (item,), _ = read_labels(tmp_path / "full.xyz")
    np.testing.assert_allclose(item.stress, crystals()[0].stress)


@pytest.mark.parametrize(
    ("energy", "forces", "sentence"),
    [
        (None, True, "no energy"),
        (1.0, None, "no forces"),
        (None, None, "no energy and no forces"),
        (float("nan"), True, "not numbers"),
    ],
)
def test_a_structure_without_results_is_refused(tmp_path, energy, forces, sentence):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    if energy is not None:
        atoms.info["REF_energy"] = energy
    if forces is not None:
        atoms.arrays["REF_forces"] = np.zeros((2, 3))
    write(tmp_path / "bad.xyz", atoms, format="extxyz")
    with pytest.raises(InputError, match=rf"bad\.xyz: structure 0 .*{sentence}"):
        read_labels(tmp_path / "bad.xyz")


@pytest.mark.parametrize("text", ["", "nonsense\n", "2\n\nH 0 0 0\n"])
def test_a_file_that_is_none(tmp_path, text):
    (tmp_path / "bad.xyz").write_text(text)
    with pytest.raises(InputError, match=r"bad\.xyz"):
        read_labels(tmp_path / "bad.xyz")
