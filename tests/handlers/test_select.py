"""Selections from real structures, by real models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from ase.constraints import FixAtoms

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.diversity import decorrelation
from fhi_al.atoms.structure import Label, Structure
from fhi_al.ensemble.descriptors import descriptors, member_energies
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.errors import JournalError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.handlers.select import Selector
from fhi_al.md.uncertainty import max_atomic_sd
from fhi_al.record.effects import Select
from fhi_al.record.events import ALL_MEMBERS, Entry, Selected

DIGEST = "digest"


@pytest.fixture
def committee(tiny_models) -> CommitteePredictor:
    return CommitteePredictor(tiny_models, dtype=torch.float64)


def described(committee: CommitteePredictor, *many: Atoms, by=descriptors) -> np.ndarray:
    batch = Batch.from_structures([Structure.from_atoms(atoms) for atoms in many])
    return committee.described(batch, by).numpy()


def turned(ethanol: Atoms) -> Atoms:
    """Another conformer: the hydroxyl group turned."""
    atoms = ethanol.copy()
    oxygen = next(i for i, symbol in enumerate(atoms.symbols) if symbol == "O")
    away = atoms.get_distances(oxygen, range(len(atoms)))
    hydrogen = min((i for i in range(len(atoms)) if atoms.symbols[i] == "H"), key=away.__getitem__)
    first, second = (i for i, symbol in enumerate(atoms.symbols) if symbol == "C")
    near, far = sorted((first, second), key=away.__getitem__)
    atoms.rotate_dihedral(far, near, oxygen, hydrogen, 120.0, indices=[hydrogen])
    return atoms


def rattled(atoms: Atoms, size: float, seed: int = 0) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(size, seed=seed)
    return atoms


def put(folder: RunFolder, atoms: Atoms) -> str:
    return folder.structures.put(Structure.from_atoms(atoms), DIGEST)


def put_label(folder: RunFolder, atoms: Atoms) -> str:
    """A label whose structure is not kept apart any more."""
    structure = Structure.from_atoms(atoms)
    key = put(folder, atoms)
    folder.labels.put(Label(structure, key, -1.0, np.zeros((len(atoms), 3))), DIGEST)
    folder.structures.path(key).unlink()
    return key


def effect(waiting, known=(), **changes) -> Select:
    asked = {
        "id": "select-0",
        "weights": "train-0",
        "waiting": tuple(waiting),
        "ahead": (),
        "entries": tuple(Entry(key, ALL_MEMBERS, "train") for key in known),
        "count": 2,
        "capacity": 10,
        "by": "descriptors",
        "alike": 0.01,
        "weight": 0.5,
    }
    return Select(**{**asked, **changes})


def select(selector: Selector, asked: Select, committee: CommitteePredictor) -> Selected:
    slices = selector.select(asked, committee)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return replace(end.value, seconds=0.0)


# --- descriptors -----------------------------------------------------------------------------


@pytest.mark.parametrize("by", [descriptors, member_energies])
def test_neither_where_nor_how_a_molecule_lies_counts_nor_the_order_of_its_atoms(
    committee, ethanol, by
):
    moved = ethanol.copy()
    moved.rotate(40, (1, 2, 3))
    moved.translate((100.0, -3.0, 7.0))
    shuffled = ethanol[np.random.default_rng(0).permutation(len(ethanol))]
    mirrored = ethanol.copy()
    mirrored.positions[:, 0] *= -1
    first, *others = described(committee, ethanol, moved, shuffled, mirrored, by=by)
    for other in others:
        assert other == pytest.approx(first, abs=1e-9)
    far = described(committee, rattled(ethanol, 0.1), by=by)
    assert np.linalg.norm(far - first) > 0.01


def test_single_precision_is_enough_to_tell_copies_from_others(tiny_models, ethanol):
    committee = CommitteePredictor(tiny_models, dtype=torch.float32)
    moved = ethanol.copy()
    moved.rotate(40, (1, 2, 3))
    first, same, near = described(committee, ethanol, moved, rattled(ethanol, 0.02))
    assert first.dtype == np.float64
    assert np.linalg.norm(same - first) < 1e-5
    assert np.linalg.norm(near - first) > 0.01


def test_a_supercell_is_like_its_cell(committee, silicon):
    double = make_supercell(silicon, np.diag([2, 1, 1]))
    cell, supercell, other = described(committee, silicon, double, rattled(silicon, 0.1))
    assert np.linalg.norm(supercell - cell) < 1e-9
    assert np.linalg.norm(other - cell) > 0.01


def test_structures_of_other_compositions_are_far_apart(committee, ethanol):
    methanol, water = molecule("CH3OH"), molecule("H2O")
    rows = described(committee, ethanol, methanol, water, bulk("Si", "diamond", a=5.4))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(4))
    for i in range(4):
        for j in range(i):
            assert np.linalg.norm(rows[i] - rows[j]) > 0.1


def test_what_is_said_of_a_structure_does_not_depend_on_the_others(committee, ethanol, silicon):
    together = described(committee, ethanol, silicon, molecule("H2O"))
    alone = described(committee, silicon)[0]
    assert together[1] == pytest.approx(alone, abs=1e-10)


def test_correlation_of_a_structure_with_itself_is_one(committee, ethanol):
    rows = described(committee, ethanol, ethanol, molecule("CH3OH"), by=member_energies)
    distances = decorrelation(rows, rows)
    assert distances[0, 1] == pytest.approx(0.0, abs=1e-9)
    assert distances[0, 2] > 1e-3


def test_energies_of_two_members_tell_nothing(tiny_models, ethanol):
    two = CommitteePredictor(tiny_models[:2], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"energies of 2 members .* at least 3"):
        described(two, ethanol, by=member_energies)


# --- selections ------------------------------------------------------------------------------


def test_a_copy_is_dropped_and_another_conformer_is_chosen(folder, committee, ethanol):
    run = folder()
    known = put_label(run, ethanol)
    copy, conformer = put(run, rattled(ethanol, 1e-4)), put(run, turned(ethanol))
    twin = put(run, rattled(turned(ethanol), 1e-4))
    answer = select(Selector(run), effect([copy, conformer, twin], [known]), committee)
    first, second = sorted([conformer, twin])
    assert answer.chosen == (first,)
    dropped = dict(answer.dropped)
    assert dropped[copy].startswith(f"like {known}, at a distance of ")
    assert dropped[second].startswith(f"like {first}, at a distance of ")
    assert len(dropped) == 2


def test_structures_that_wait_for_their_labels_are_as_good_as_known(folder, committee, ethanol):
    run = folder()
    ahead, copy = put(run, ethanol), put(run, rattled(ethanol, 1e-4))
    answer = select(Selector(run), effect([copy], ahead=(ahead,)), committee)
    assert answer.chosen == ()
    assert f"like {ahead}" in dict(answer.dropped)[copy]


def test_scores_are_the_runs_uncertainty_of_atoms_that_move(folder, committee, ethanol):
    run = folder()
    ethanol.set_constraint(FixAtoms(range(3, 9)))
    many = [rattled(ethanol, 0.1, seed) for seed in range(4)]
    keys = [put(run, atoms) for atoms in many]
    answer = select(Selector(run), effect(keys, weight=1.0), committee)
    batch = Batch.from_structures([Structure.from_atoms(atoms) for atoms in many])
    mobile = torch.ones(batch.n_atoms, dtype=torch.bool)
    everywhere = max_atomic_sd(committee.predict(batch).forces, batch, mobile).tolist()
    mobile.view(4, -1)[:, 3:] = False
    expected = max_atomic_sd(committee.predict(batch).forces, batch, mobile).tolist()
    assert expected != pytest.approx(everywhere)
    assert dict(answer.scores) == pytest.approx(dict(zip(keys, expected, strict=True)), rel=1e-5)
    assert answer.chosen == tuple(sorted(keys, key=lambda key: -dict(answer.scores)[key])[:2])


@pytest.mark.parametrize("by", ["descriptors", "correlation"])
def test_neither_the_order_of_keys_nor_the_size_of_batches_counts(folder, committee, ethanol, by):
    run = folder()
    known = [put_label(run, rattled(ethanol, 0.05, seed)) for seed in range(3)]
    waiting = [put(run, rattled(ethanol, 0.1, seed)) for seed in range(10, 16)]
    waiting.append(put(run, rattled(ethanol, 0.05, 1).copy()[::-1]))
    answers = {
        select(
            Selector(run, batch_size),
            effect(waiting[::order], known[::order], by=by, alike=1e-6),
            committee,
        )
        for batch_size, order in ((1, 1), (3, -1), (100, 1))
    }
    (answer,) = answers
    assert len(answer.chosen) == 2
    assert len(answer.dropped) == 1, "its atoms in another order make no other structure"


def test_other_weights_are_asked_anew_and_the_same_are_not(folder, tiny_models, ethanol):
    run = folder()
    keys = [put(run, rattled(ethanol, 0.1, seed)) for seed in range(3)]
    committee = CommitteePredictor(tiny_models[:2], dtype=torch.float64)
    looks = []
    of_models = committee.described
    committee.described = lambda batch, how: looks.append(len(batch)) or of_models(batch, how)
    selector = Selector(run)
    first = select(selector, effect(keys[:2]), committee)
    assert select(selector, effect(keys[:2]), committee) == first
    assert sum(looks) == 2
    select(selector, effect(keys), committee)
    assert sum(looks) == 3
    committee.load(tiny_models[1:])
    second = select(selector, effect(keys[:2], weights="train-1"), committee)
    assert sum(looks) == 5
    assert second.weights == "train-1"
    assert dict(second.scores) != dict(first.scores)


def test_it_yields_between_batches(folder, committee, ethanol):
    run = folder()
    known = [put_label(run, rattled(ethanol, 0.05, seed)) for seed in range(3)]
    waiting = [put(run, rattled(ethanol, 0.1, seed)) for seed in range(10, 15)]
    slices = Selector(run, 2).select(effect(waiting, known), committee)
    # Descriptions of 8, uncertainties of 5.
    assert sum(1 for _ in slices) == 4 + 3


def test_a_structure_that_is_gone_without_a_label_is_told(folder, committee, ethanol):
    run = folder()
    key = put(run, ethanol)
    run.structures.path(key).unlink()
    with pytest.raises(JournalError, match="is missing, though the journal names it"):
        select(Selector(run), effect([key]), committee)
