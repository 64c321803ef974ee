"""What goes wrong in a training."""

import pytest
from ase import Atoms
from ensemble_runs import (
    effect,
    label,
    molecules,
    run,
    shared_entries,
)

from fhi_al.ensemble.members import load_committee
from fhi_al.errors import FhiAlError, InputError, JournalError
from fhi_al.record.events import ALL_MEMBERS, Entry


def test_a_diverged_training_says_so(make_folder):
    folder = make_folder({"TRAINING": {"lr": 1e200, "clip_grad": None, "amsgrad": False}})
    with pytest.raises(FhiAlError, match=r"diverged.*TRAINING\.lr"):
        run(folder, effect(shared_entries(molecules()), epochs=5, members=(0,)))


def test_no_label_no_model(make_folder):
    folder = make_folder()
    with pytest.raises(InputError, match="no training label"):
        run(folder, effect([Entry(molecules()[0].key, ALL_MEMBERS, "valid")]))


def test_atoms_too_far_apart(make_folder):
    folder = make_folder({"ARCHITECTURE": {"r_max": 0.5}})
    with pytest.raises(InputError, match=r"r_max.*0\.5 Å"):
        run(folder, effect(shared_entries(molecules())))


def test_a_label_with_a_strange_element(make_folder):
    strange = label(Atoms("CN", [[0, 0, 0], [0, 0, 1.2]]))
    folder = make_folder(labels=(*molecules(), strange))
    entries = [*shared_entries(molecules()), Entry(strange.key, ALL_MEMBERS, "train")]
    with pytest.raises(InputError, match=r"\[7\].*\[1, 6, 8\]"):
        run(folder, effect(entries))


def test_a_missing_or_torn_checkpoint(make_folder):
    folder = make_folder()
    run(folder, effect(shared_entries(molecules())))
    path = folder.checkpoint("train-0", 1)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(JournalError, match=r"train-0-1\.pt can't be read"):
        load_committee(folder, "train-0", "cpu")
    path.write_bytes(b"\0" * 1000)
    with pytest.raises(JournalError, match=r"train-0-1\.pt can't be read"):
        load_committee(folder, "train-0", "cpu")
    path.unlink()
    with pytest.raises(JournalError, match=r"train-0-1\.pt is missing"):
        load_committee(folder, "train-0", "cpu")
