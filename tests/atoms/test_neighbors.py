"""Neighbour lists, with ASE's as referee."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.neighbors import NeighborLists
from fhi_al.atoms.pairs import search
from fhi_al.atoms.structure import Structure
from fhi_al.ensemble.predict import CommitteePredictor

SYSTEMS = {
    "molecule": molecule("CH3CH2OH"),
    "one atom": Atoms("H"),
    "dissociated": Atoms("H3", positions=[[0, 0, 0], [1, 0, 0], [1e5, -1e5, 0]]),
    "primitive cell": bulk("Si", a=5.43),
    "skewed cell, atoms outside": Atoms(
        "H3",
        positions=[[0.1, 0, 0], [9, -7, 3], [-4, 8, 21]],
        cell=[[2.5, 0, 0], [1.9, 3, 0], [-1, 0.5, 4]],
        pbc=True,
    ),
    "slab without third vector": Atoms(
        "H2",
        positions=[[0, 0, -3], [1, 1, -1]],
        cell=[[3, 0, 0], [1, 3, 0], [0, 0, 0]],
        pbc=(1, 1, 0),
    ),
    "chain along the second vector": Atoms(
        "H3",
        positions=[[5, 0, 1], [5, 1, 30], [6, 2, 1]],
        cell=[[0, 0, 0], [0.3, 3, 0], [0, 0, 0]],
        pbc=(0, 1, 0),
    ),
}


def as_set(index, shifts):
    return {(*pair, *shift) for pair, shift in zip(index.T.tolist(), shifts.tolist(), strict=True)}


@pytest.mark.parametrize("name", SYSTEMS)
def test_all_pairs_are_found(name):
    atoms = SYSTEMS[name]
    index, shifts = search(atoms.positions, atoms.cell.array, atoms.pbc, 4.1)
    i, j, expected = neighbor_list("ijS", atoms, 4.1)
    assert as_set(index, shifts) == as_set(np.stack([i, j]), expected)
    assert index.shape[1] == len(i)


def test_lists_stay_exact_while_atoms_move():
    random = np.random.default_rng(5)
    systems = [SYSTEMS[name] for name in ("molecule", "primitive cell", "dissociated")]
    batch = Batch.from_structures([Structure.from_atoms(atoms) for atoms in systems])
    lists = NeighborLists(3.5, skin=0.6)
    for _ in range(40):
        batch.positions += 0.03 * torch.from_numpy(random.standard_normal((batch.n_atoms, 3)))
        edges = lists.edges(batch)
        # A new search finds the same edges, in the same order.
        fresh = NeighborLists(3.5, skin=0.0).edges(batch)
        assert torch.equal(edges.index, fresh.index)
        assert torch.equal(edges.shifts, fresh.shifts)
        assert np.array_equal(edges.ptr, fresh.ptr)
    assert 6 <= lists.n_searches < 60


def test_a_changed_cell_is_noticed():
    atoms = SYSTEMS["primitive cell"]
    batch = Batch.from_structures([Structure.from_atoms(atoms)])
    lists = NeighborLists(3.5)
    before = lists.edges(batch).index.shape[1]
    batch.cells *= 0.8
    batch.positions *= 0.8
    edges = lists.edges(batch)
    assert edges.index.shape[1] > before
    assert torch.equal(edges.shifts, NeighborLists(3.5, 0.0).edges(batch).shifts)


def test_lists_follow_a_changing_cell():
    """As under constant pressure: few searches, and the edges and shifts of a new one."""
    random = np.random.default_rng(4)
    atoms = [SYSTEMS["primitive cell"], bulk("Si", cubic=True)]
    batch = Batch.from_structures([Structure.from_atoms(one) for one in atoms])
    lists = NeighborLists(3.5, skin=0.5)
    counts = set()
    for step in range(80):
        growth = 0.004 if step < 40 else -0.006
        strain = torch.tensor(np.eye(3) * (1 + growth) + 0.002 * random.standard_normal((2, 3, 3)))
        batch.cells.copy_(batch.cells @ strain)
        batch.positions.copy_(
            torch.einsum("ai,aij->aj", batch.positions, strain[batch.structure_index])
        )
        batch.positions += 0.005 * torch.from_numpy(random.standard_normal((batch.n_atoms, 3)))
        edges = lists.edges(batch)
        fresh = NeighborLists(3.5, skin=0.0).edges(batch)
        assert torch.equal(edges.index, fresh.index)
        assert torch.equal(edges.shifts, fresh.shifts)
        counts.add(edges.index.shape[1])
    assert len(counts) > 3
    assert 4 <= lists.n_searches < 40


def interaction_classes():
    # mace itself is imported only when the test runs.
    return [
        "RealAgnosticResidualInteractionBlock",
        "RealAgnosticAttResidualInteractionBlock",
        "RealAgnosticInteractionBlock",
        "RealAgnosticDensityInteractionBlock",
        "RealAgnosticDensityResidualInteractionBlock",
        "RealAgnosticResidualNonLinearInteractionBlock",
    ]


def test_no_interaction_class_is_left_out():
    from mace.modules import interaction_classes as registry

    assert sorted(registry) == sorted(interaction_classes())


@pytest.mark.parametrize("name", interaction_classes())
def test_moving_with_lists_gives_the_forces_of_a_new_search(name, tiny_mace, ethanol, silicon):
    """Also for the blocks where an edge beyond the cutoff would contribute."""
    from mace.modules import interaction_classes as registry

    model = tiny_mace(0, interaction_cls=registry[name], num_interactions=2)
    predictor = CommitteePredictor([model], dtype=torch.float64)
    batch = Batch.from_structures([Structure.from_atoms(atoms) for atoms in (ethanol, silicon)])
    lists = predictor.neighbor_lists()
    predictor.predict(batch, lists)
    generator = torch.Generator().manual_seed(0)
    batch.positions += 0.05 * torch.randn(
        batch.positions.shape, generator=generator, dtype=torch.float64
    )
    forces = predictor.predict(batch, lists).forces
    assert lists.n_searches == 2
    assert (forces - predictor.predict(batch).forces).abs().max() < 1e-12
