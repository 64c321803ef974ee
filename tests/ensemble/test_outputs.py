"""Errors, exported models and datasets, and taking them in again."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from ase.io import read
from ensemble_runs import (
    crystals,
    effect,
    finish,
    molecules,
    own_entries,
    run,
    shared_entries,
)
from mace.calculators import MACECalculator
from test_train import raw, same

from fhi_al.analysis.predictions import load_predictions
from fhi_al.ensemble.frames import write_labels
from fhi_al.ensemble.members import load_committee
from fhi_al.errors import InputError
from fhi_al.handlers.evaluate import evaluate
from fhi_al.handlers.export import export
from fhi_al.handlers.imports import import_data
from fhi_al.record.effects import Evaluate, Export, Import
from fhi_al.record.events import ALL_MEMBERS, Entry


@pytest.fixture
def calculator():
    """Loads a model as its user does; MACECalculator changes torch's default precision."""
    before = torch.get_default_dtype()
    yield lambda path: MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
    torch.set_default_dtype(before)


# A convergence that gets worse at its end, so that best, averaged and raw weights all differ.
WILD = {"TRAINING": {"lr": 0.2, "scheduler_patience": 1000}}


def converged(make_folder, entries, labels=None, active=None, **changes):
    folder = make_folder(WILD, active, labels=labels)
    asked = {"stage": "convergence", "members": (0, 1), "epochs": 12, "fresh": True, **changes}
    return folder, *run(folder, effect(entries, **asked))


@pytest.mark.parametrize("labels", [molecules, crystals])
def test_exported_models_have_the_errors_that_were_reported(make_folder, calculator, labels):
    labels = labels()
    entries = shared_entries(labels)
    folder, committee, event = converged(make_folder, entries, labels)
    asked = Evaluate("evaluate", "train-0", (0, 1), entries)
    evaluated = finish(evaluate(asked, folder, committee, "cpu"))
    exported = export(
        Export("export", "convergence", "train-0", (0, 1), entries), folder, committee
    )
    assert {"model/tiny_0.model", "model/tiny_1.model", "data/valid.xyz"} <= set(exported.files)
    kept = load_predictions(folder.predictions, folder.run, "train-0")["validation"]
    assert kept.members.tolist() == [0, 1]
    predicted = []
    for index in (0, 1):
        calc = calculator(folder.root / f"model/tiny_{index}.model")
        frames = read(folder.root / "data/valid.xyz", ":")
        assert len(frames) == 4
        forces, energies, stress = [], [], []
        for atoms in frames:
            atoms.calc = calc
            stress.append(atoms.get_stress() if atoms.pbc.all() else np.full(6, np.nan))
            forces.append(atoms.get_forces() - atoms.arrays["REF_forces"])
            energies.append((atoms.get_potential_energy() - atoms.info["REF_energy"]) / len(atoms))
        (told,) = [error for error in evaluated.errors if error.who == f"member {index}"]
        # Positions have eight decimals in the file.
        forces = np.concatenate(forces)
        np.testing.assert_allclose(kept.forces[index] - kept.true_forces, forces, atol=1e-6)
        np.testing.assert_allclose(kept.stress[index], stress, atol=1e-6)
        assert np.abs(forces).mean() == pytest.approx(told.force_mae, abs=1e-6)
        assert np.sqrt(np.square(forces).mean()) == pytest.approx(told.force_rmse, abs=1e-6)
        assert np.abs(energies).mean() == pytest.approx(told.energy_mae, abs=1e-6)
        assert told.energy_rmse == pytest.approx(np.sqrt(np.square(energies).mean()), abs=1e-6)
        assert told.n_structures == 4
        predicted.append(forces)
        # These are the best weights of the stage, which are not the last.
        best = min(record[3] for record in event.history if record[0] == index)
        (mae,) = [r[4] for r in event.history if r[0] == index and r[3] == best]
        assert told.force_mae == pytest.approx(mae, abs=1e-12)
        assert event.members[index].best_loss == best < event.members[index].valid_loss
    mean = np.abs(np.mean(predicted, axis=0)).mean()
    (told,) = [error for error in evaluated.errors if error.who == "committee"]
    assert told.force_mae == pytest.approx(mean, abs=1e-6)


def test_the_test_set_is_measured(make_folder, tmp_path):
    labels = molecules()
    write_labels(tmp_path / "test.xyz", [(item, {}) for item in labels[-4:]])
    entries = [Entry(item.key, ALL_MEMBERS, "train") for item in labels[:-4]]
    active = {"ACTIVE_LEARNING": {"test_set": str(tmp_path / "test.xyz")}}
    folder, committee, _ = converged(make_folder, entries, active=active)
    asked = Evaluate("evaluate", "train-0", (1,), entries)
    (errors,) = finish(evaluate(asked, folder, committee, "cpu")).errors
    assert (errors.who, errors.data, errors.n_structures) == ("member 1", "test", 4)
    checked = [*entries, *(Entry(item.key, ALL_MEMBERS, "valid") for item in labels[-4:])]
    asked = Evaluate("evaluate", "train-0", (1,), checked)
    validation, test = finish(evaluate(asked, folder, committee, "cpu")).errors
    assert validation.force_mae == pytest.approx(test.force_mae, abs=1e-6)


def test_datasets_seeds_and_folders(make_folder):
    labels = molecules()
    entries = [*own_entries(labels[:-1]), Entry(labels[-1].key, ALL_MEMBERS, "audit")]
    folder = make_folder()
    committee, _ = run(folder, effect(entries, stage="initial_dataset"))
    asked = Export("export", "initial_dataset", "train-0", (0, 1), entries)
    exported = export(asked, folder, committee)
    assert {name for name in exported.files if name.startswith("data")} == {
        "data/seeds.yaml",
        *(
            f"data/initial/{name}.xyz"
            for name in (
                "train", "valid", "audit",
                "train_member0", "train_member1", "valid_member0", "valid_member1",
            )
        ),
    }  # fmt: skip
    sizes = {
        name: len(read(folder.data / f"initial/{name}.xyz", ":"))
        for name in ("train", "valid", "audit", "train_member0", "valid_member1")
    }
    assert sizes == {"train": 9, "valid": 2, "audit": 1, "train_member0": 5, "valid_member1": 1}
    seeds = yaml.safe_load((folder.data / "seeds.yaml").read_text())
    assert seeds == {f"tiny_{i}": member.seed for i, member in enumerate(committee.members)}


def test_mace_run_train_takes_datasets_and_models(make_folder, tmp_path):
    """Fine-tuning an exported model on the exported data with MACE's own command."""
    labels = crystals()
    entries = shared_entries(labels)
    folder, committee, _ = converged(make_folder, entries, labels, epochs=1)
    export(Export("export", "convergence", "train-0", (0,), entries), folder, committee)
    command = [
        *(sys.executable, "-W", "ignore", "-m", "mace.cli.run_train", "--name", "more"),
        *("--train_file", folder.data / "train.xyz", "--valid_file", folder.data / "valid.xyz"),
        *("--foundation_model", folder.models / "tiny_0.model", "--multiheads_finetuning", "False"),
        *(
            "--E0s",
            "foundation",
            "--loss",
            "stress",
            "--max_num_epochs",
            "1",
            "--work_dir",
            tmp_path,
        ),
        *("--batch_size", "2", "--device", "cpu", "--model_dir", tmp_path),
    ]
    done = subprocess.run(map(str, command), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    for found in ("energy: 4", "forces: 4", "stress: 4"):
        assert found in done.stdout
    assert (tmp_path / "more.model").is_file()


# --- imports ---------------------------------------------------------------------------------


def initial(make_folder, name="first", labels=None):
    labels = molecules() if labels is None else labels
    entries = own_entries(labels)
    folder = make_folder(labels=labels, name=name)
    committee, _ = run(folder, effect(entries, stage="initial_dataset", epochs=2))
    export(Export("export", "initial_dataset", "train-0", (0, 1), entries), folder, committee)
    return folder, committee, entries


@pytest.mark.parametrize("labels", [molecules, crystals])
def test_what_an_initial_dataset_leaves_is_taken_in(make_folder, labels):
    labels = labels()
    first, committee, entries = initial(make_folder, labels=labels)
    second = make_folder(labels=labels, name="second")
    for name in ("data", "model"):
        (first.root / name).rename(second.root / name)
    imported = import_data(Import("import"), second)
    assert imported.weights == "import"
    again = load_committee(second, "import", "cpu")
    for index in (0, 1):
        averaged = [weight.numpy() for weight in committee.members[index].averaged()]
        assert same(raw(again, index), averaged)
        assert again.members[index].spec.avg_num_neighbors == pytest.approx(
            committee.members[index].spec.avg_num_neighbors
        )
    places = sorted((entry.member, entry.split) for entry in imported.entries)
    assert places == sorted((entry.member, entry.split) for entry in entries)
    energies = {round(second.labels.get(entry.key).energy, 6) for entry in imported.entries}
    assert energies == {round(item.energy, 6) for item in labels}
    graphs = [
        committee.graphs(first).of([entries[0].key]),
        again.graphs(second).of([_first(imported)]),
    ]
    assert graphs[0][0].edge_index.shape == graphs[1][0].edge_index.shape
    trained = effect(imported.entries, id="train-0", weights="import")
    _, event = run(second, trained, again)
    assert event.members[0].n_train == sum(e.member == 0 and e.split == "train" for e in entries)


def _first(imported) -> str:
    return imported.entries[0].key


def test_other_files_are_dealt_to_the_members(make_folder, tmp_path):
    labels = molecules()
    write_labels(tmp_path / "all.xyz", [(item, {}) for item in labels[:10]])
    write_labels(tmp_path / "my_valid.xyz", [(item, {}) for item in labels[9:]])
    files = [str(tmp_path / "all.xyz"), str(tmp_path / "my_valid.xyz")]
    folder = make_folder(active={"ACTIVE_LEARNING": {"initial_data": files, "valid_ratio": 0.2}})
    imported = import_data(Import("import"), folder)
    assert imported.weights is None
    assert imported.files == tuple(files)
    places = [(entry.member, entry.split) for entry in imported.entries]
    # The structure that both files have counts once, where it came first.
    assert len(places) == len({entry.key for entry in imported.entries}) == 12
    assert places.count((ALL_MEMBERS, "valid")) == 2
    for member in (0, 1):
        assert places.count((member, "train")) == 4
        assert places.count((member, "valid")) == 1
    label = folder.labels.get(imported.entries[3].key)
    assert label.provenance["source"] == "all.xyz"
    assert label.provenance["index"] == 3
    again = import_data(Import("import"), folder)
    assert again.entries == imported.entries


def test_labels_that_no_reference_would_give_are_warned_of(make_folder, tmp_path, caplog):
    good = molecules()[0]
    balanced = replace(good, forces=good.forces - good.forces.mean(axis=0))
    positions = good.structure.positions.copy()
    positions[1] = positions[0] + [0.1, 0.0, 0.0]
    overlapping = replace(balanced, structure=replace(good.structure, positions=positions))
    moved = replace(good.structure, positions=good.structure.positions + 1.0)
    pulled = replace(balanced, structure=moved, forces=balanced.forces + 1.0)
    write_labels(tmp_path / "odd.xyz", [(x, {}) for x in (balanced, overlapping, pulled)])
    folder = make_folder(active={"ACTIVE_LEARNING": {"initial_data": [str(tmp_path / "odd.xyz")]}})
    import_data(Import("import"), folder)
    assert "structure 1: atoms 1 (" in caplog.text
    assert "structure 2: the forces on the molecule add up to" in caplog.text
    assert "structure 0: " not in caplog.text


def test_a_few_structures_are_shared_by_all(make_folder, tmp_path):
    write_labels(tmp_path / "few.xyz", [(item, {}) for item in molecules()[:3]])
    folder = make_folder(active={"ACTIVE_LEARNING": {"initial_data": [str(tmp_path / "few.xyz")]}})
    entries = import_data(Import("import"), folder).entries
    assert {entry.member for entry in entries} == {ALL_MEMBERS}


def test_models_without_data_of_theirs(make_folder, tmp_path, tiny_mace):
    """Models of somebody else's, of another architecture and precision than the settings say."""
    for index in (0, 1):
        torch.save(tiny_mace(index), tmp_path / f"{index}.model")
    write_labels(tmp_path / "all.xyz", [(item, {}) for item in molecules()])
    active = {
        "initial_data": str(tmp_path / "all.xyz"),
        "initial_models": [str(tmp_path / f"{index}.model") for index in (0, 1)],
    }
    folder = make_folder({"GENERAL": {"default_dtype": "float32"}}, {"ACTIVE_LEARNING": active})
    imported = import_data(Import("import"), folder)
    committee = load_committee(folder, "import", "cpu")
    assert committee.dtype == torch.float32
    spec = committee.members[0].spec
    assert (spec.elements, spec.r_max, spec.avg_num_neighbors) == ((1, 6, 8, 14), 3.5, 6.0)
    _, event = run(folder, effect(imported.entries, id="train-0", weights="import"), committee)
    assert event.members[0].force_mae is not None


def test_what_cannot_be_taken_in(make_folder, tmp_path, tiny_mace):
    folder = make_folder(name="empty")
    with pytest.raises(InputError, match=r"no initial dataset in .*FHI_AL-initial-ds"):
        import_data(Import("import"), folder)

    write_labels(tmp_path / "valid.xyz", [(item, {}) for item in molecules()])
    only = {"ACTIVE_LEARNING": {"initial_data": str(tmp_path / "valid.xyz")}}
    with pytest.raises(InputError, match="nothing to train on"):
        import_data(Import("import"), make_folder(active=only, name="valid"))

    write_labels(tmp_path / "metal.xyz", [(item, {}) for item in crystals()])
    metal = {"ACTIVE_LEARNING": {"initial_data": str(tmp_path / "metal.xyz")}}
    with pytest.raises(InputError, match=r"metal\.xyz has .*\[29, 79\].*geometry\.in"):
        import_data(Import("import"), make_folder(active=metal, name="metal"))

    write_labels(tmp_path / "all.xyz", [(item, {}) for item in molecules()])
    good, text, wrong = (tmp_path / f"{name}.model" for name in ("good", "text", "wrong"))
    torch.save(tiny_mace(0), good)
    text.write_text("no model")
    torch.save(tiny_mace(0, r_max=4.0), wrong)
    for other, sentence in ((text, "can't be loaded"), (wrong, "differs from .*cutoff")):
        models = {
            "initial_data": str(tmp_path / "all.xyz"),
            "initial_models": [str(good), str(other)],
        }
        folder = make_folder(active={"ACTIVE_LEARNING": models}, name=other.stem)
        with pytest.raises(InputError, match=sentence):
            import_data(Import("import"), folder)


def test_energies_of_imported_models_count_from_the_atoms_of_the_reference(
    make_folder, tmp_path, tiny_mace
):
    """A foundation model has been trained with another reference."""
    for index in (0, 1):
        torch.save(tiny_mace(index), tmp_path / f"{index}.model")
    write_labels(tmp_path / "all.xyz", [(item, {}) for item in molecules()])
    active = {
        "initial_data": str(tmp_path / "all.xyz"),
        "initial_models": [str(tmp_path / f"{index}.model") for index in (0, 1)],
    }
    given = {"ARCHITECTURE": {"atomic_energies": {"H": -13.0, "C": -1000.0, "O": -2000.0}}}
    from_settings = make_folder(given, {"ACTIVE_LEARNING": active}, name="given")
    computed = make_folder(
        {"ARCHITECTURE": {"atomic_energies": "auto"}}, {"ACTIVE_LEARNING": active}, name="auto"
    )
    own = (("C", -1000.0), ("H", -13.0), ("O", -2000.0))
    for folder, energies in ((from_settings, None), (computed, own)):
        import_data(Import("import", energies), folder)
        for member in load_committee(folder, "import", "cpu").members:
            # Silicon is not in geometry.in: what the model had.
            assert member.spec.atomic_energies == (-13.0, -1000.0, -2000.0, -4.0)
            buffer = member.model.get_buffer("atomic_energies_fn.atomic_energies")
            assert buffer.flatten().tolist() == [-13.0, -1000.0, -2000.0, -4.0]
