"""Validation by the code of molecular dynamics: the numbers of mace-torch, or not taken."""

import logging

import numpy as np
import pytest
import torch
from code_stand_ins import Codes
from ensemble_runs import crystals, effect, finish, molecules, run, shared_entries

from fhi_al.atoms.batch import Batch
from fhi_al.ensemble.fast_validation import FastValidation
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.ensemble.validation import validate
from fhi_al.fast.forces import FastForces
from fhi_al.fast.splitting import MemoryLimit
from fhi_al.handlers.train import train


def moved(committee, labels, count):
    """Code that molecular dynamics has used, for so many structures, and what made it."""
    codes = Codes(cached=(count + 1,))
    # It is no faster than what it stands for.
    forces = FastForces(count, insist=True, make=codes)
    predictor = CommitteePredictor(committee.models(), dtype=torch.float64, fast=forces)
    batch = Batch.from_structures([label.structure for label in labels[:count]])
    lists = predictor.neighbor_lists()
    for _ in range(2):
        predictor.predict(batch, lists)
    assert predictor.path == "compiled"
    codes.used.clear()
    return forces, codes


def test_the_numbers_are_those_of_the_model(make_folder):
    labels = molecules()
    folder = make_folder(labels=labels)
    committee, _ = run(folder, effect(shared_entries(labels), epochs=3))
    forces, codes = moved(committee, labels, 2)
    validation, used = FastValidation(forces), codes.used
    asked = []
    graphs = committee.graphs(folder).of(label.key for label in labels[:9])
    for member in committee.members:
        member.model.register_forward_pre_hook(lambda *_: asked.append(len(used)))
        expected = finish(validate(member, graphs, 4))
        asked.clear()
        used.clear()
        assert finish(validate(member, graphs, 4, validation)) == pytest.approx(expected, rel=1e-9)
        # Two structures at a time; compared with the model in the first batch of the first member.
        assert used == [3] * 5
        validation_checks = len([calls for calls in asked if calls == 2])
        assert validation_checks == (member is committee.members[0])


@pytest.mark.parametrize("memory", [9, 8])
def test_batches_that_are_evaluated_together_are_judged_one_by_one(make_folder, memory, caplog):
    """As on a GPU: as many as there is memory for, and the loss of MACE's batches."""
    caplog.set_level(logging.INFO, "fhi_al")
    labels = molecules()
    folder = make_folder(labels=labels)
    committee, _ = run(folder, effect(shared_entries(labels), epochs=3))
    graphs = committee.graphs(folder).of(label.key for label in labels[:9])
    member, sizes = committee.members[0], []

    def refuse(_, args):
        sizes.append(len(args[0]["head"]))
        if sizes[-1] > memory:
            raise torch.cuda.OutOfMemoryError("too many structures")

    expected = finish(validate(member, graphs, 4))
    member.model.register_forward_pre_hook(refuse)
    member.memory_limit = MemoryLimit(member.device)
    for _ in range(2):
        assert finish(validate(member, graphs, 4)) == pytest.approx(expected, rel=1e-9)
    assert sizes == {9: [9, 9], 8: [9, 4, 4, 1, 4, 4, 1]}[memory]
    assert caplog.text.count("don't fit into the memory") == (memory < 9)


def test_a_batch_that_does_not_fit_alone_is_an_error(make_folder):
    labels = molecules()
    folder = make_folder(labels=labels)
    committee, _ = run(folder, effect(shared_entries(labels), epochs=1))
    graphs = committee.graphs(folder).of(label.key for label in labels[:9])
    member = committee.members[0]

    def refuse(*_):
        raise torch.cuda.OutOfMemoryError("too many structures")

    member.model.register_forward_pre_hook(refuse)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="too many"):
        finish(validate(member, graphs, 4))


def test_a_training_validates_by_code(make_folder):
    labels = molecules()
    entries = shared_entries(labels)
    folder = make_folder(labels=labels)
    committee, _ = run(folder, effect(entries))
    further = effect(entries, id="train-1", weights="train-0", epochs=2)
    forces, codes = moved(committee, labels, 2)
    validation = FastValidation(forces)
    _, seen = finish(train(further, folder, committee, "cpu", validation=validation))
    assert codes.used
    _, expected = run(folder, further)
    np.testing.assert_allclose(seen.history, expected.history, rtol=1e-9)


def test_wrong_code_is_not_used(make_folder, caplog):
    labels = molecules()
    folder = make_folder(labels=labels)
    committee, _ = run(folder, effect(shared_entries(labels)))
    forces, codes = moved(committee, labels, 2)
    codes.off_by = 1e-3
    validation = FastValidation(forces)
    graphs = committee.graphs(folder).of(label.key for label in labels)
    for _ in range(4):
        validation.doubt()
        for member in committee.members:
            expected = finish(validate(member, graphs, 4))
            assert finish(validate(member, graphs, 4, validation)) == expected
    assert caplog.text.count("validation stays eager: compiled code is off by 1.0e-03") == 1


def test_stress_and_structures_that_do_not_fit_stay_eager(make_folder):
    labels = crystals()
    folder = make_folder({"TRAINING": {"loss": "stress"}}, labels=labels)
    committee, _ = run(folder, effect(shared_entries(labels)))
    graphs = committee.graphs(folder).of(label.key for label in labels)
    member = committee.members[0]
    expected = finish(validate(member, graphs, 4))
    forces, codes = moved(committee, labels, 2)
    validation = FastValidation(forces)
    assert finish(validate(member, graphs, 4, validation)) == expected
    assert not codes.used
    assert FastForces(2).evaluate_one([], {}) is None
