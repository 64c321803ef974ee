"""Batches taken apart, and put together."""

import pytest
import torch

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import Structure
from fhi_al.ensemble.predict import CommitteePredictor, ask
from fhi_al.fast.splitting import joined_outputs, split


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_parts_say_what_the_whole_says(tiny_models, ethanol, silicon, size):
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    systems = [silicon, ethanol, ethanol, silicon]
    batch = Batch.from_structures([Structure.from_atoms(atoms) for atoms in systems])
    inputs = predictor.inputs(batch, predictor.neighbor_lists().edges(batch))
    parts = list(split(inputs, size))
    assert [len(part["head"]) for part in parts] == {
        1: [1, 1, 1, 1],
        2: [2, 2],
        3: [3, 1],
        4: [4],
        9: [4],
    }[size]
    whole = ask(tiny_models, inputs, virials=True)
    together = joined_outputs([ask(tiny_models, part, virials=True) for part in parts])
    for ours, theirs in zip(together, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_an_atom_without_neighbours_is_a_part_of_its_own(tiny_models, ethanol):
    atom = ethanol[:1]
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    batch = Batch.from_structures([Structure.from_atoms(a) for a in (atom, ethanol, atom)])
    inputs = predictor.inputs(batch, predictor.neighbor_lists().edges(batch))
    parts = list(split(inputs, 1))
    assert [part["edge_index"].shape[1] for part in parts] == [0, inputs["edge_index"].shape[1], 0]
    assert joined_outputs([(torch.zeros(1, 1), torch.zeros(1, 1, 3), None)] * 2)[2] is None
