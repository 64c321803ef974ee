"""Whole runs: what they leave behind, and that it is what it is said to be."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.io import read
from ase.units import Bohr, Hartree
from cli_runs import (
    AL,
    DETERMINISTIC,
    call,
    contents,
    count,
    journal,
    label_files,
    labelled,
    succeed,
    summary,
    write_inputs,
)
from tblite.interface import Calculator

from fhi_al.record.events import Advanced, Labelled, LabelRejected, Sampled, Trained


def xtb(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy in eV and forces in eV/Å, from tblite alone."""
    calculator = Calculator("GFN2-xTB", atoms.numbers, atoms.positions / Bohr)
    calculator.set("verbosity", 0)
    result = calculator.singlepoint()
    return result.get("energy") * Hartree, -result.get("gradient") * Hartree / Bohr


# --- what a run leaves -------------------------------------------------------------------------


def test_files_are_where_the_manual_says(finished):
    folder, _ = finished
    present = contents(folder)
    for name in (
        "model/initial/water_0.model",
        "model/initial/water_1.model",
        "data/initial/train_member0.xyz",
        "data/initial/valid_member1.xyz",
        "data/train.xyz",
        "data/valid.xyz",
        "data/seeds.yaml",
        "results/history_member0.csv",
        "results/history_member1.csv",
        "results/summary.json",
        "results/summary.txt",
        "results/settings/as_given/geometry.in",
        "results/settings/as_given/mace_settings.yaml",
        "results/settings/as_given/active_learning_settings.yaml",
        "results/settings/resolved/mace_settings.yaml",
        "results/settings/resolved/active_learning_settings.yaml",
        "initial_dataset.log",
        "AL.log",
        "restart/journal.jsonl",
    ):
        assert name in present, name
    # converge_best: one final model, the best one.
    assert len(list((folder / "model").glob("*.model"))) == 1
    assert list((folder / "checkpoints").glob("*.pt"))
    # What the restart needs no more is gone, working folders included.
    assert not (folder / "reference").exists()
    assert not (folder / "fhi_al_error.log").exists()
    assert len(list((folder / "restart" / "walkers").glob("*"))) == 1


def test_settings_are_kept(finished):
    folder, _ = finished
    kept = folder / "results" / "settings"
    for name in ("geometry.in", "mace_settings.yaml", "active_learning_settings.yaml"):
        assert (kept / "as_given" / name).read_text() == (folder / name).read_text()
    resolved = yaml.safe_load((kept / "resolved" / "active_learning_settings.yaml").read_text())
    assert resolved["ACTIVE_LEARNING"]["n_samples"] == AL["ACTIVE_LEARNING"]["n_samples"]
    assert resolved["ACTIVE_LEARNING"]["threshold_factor"] == 1.0


def test_logs_tell_the_story(finished):
    folder, done = finished
    initial, al = ((folder / name).read_text() for name in ("initial_dataset.log", "AL.log"))
    assert initial.count("label ") == 16
    assert "Initial dataset ended: max_initial_epochs (20) is reached" in initial
    assert "1 times the mean of the last 400" in al
    assert "Active learning ended: the training set reached max_set_size (13)" in al
    assert "max_final_epochs (4) is reached" in al
    for line in (initial + al).splitlines():
        assert line in done.text
    assert "\x1b" not in initial + al + done.text


@pytest.mark.parametrize("name", ["train", "valid", "initial/train", "initial/valid"])
def test_datasets_hold_what_the_reference_says(finished, name):
    folder, _ = finished
    frames = read(folder / "data" / f"{name}.xyz", ":")
    assert len(frames) > 2
    for atoms in frames:
        energy, forces = xtb(atoms)
        # Positions in the file have eight decimals.
        assert atoms.info["REF_energy"] == pytest.approx(energy, abs=1e-5)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], forces, atol=1e-5)


def test_every_label_is_in_exactly_one_final_dataset(finished):
    folder, _ = finished
    keys = [
        atoms.info["fhi_al_key"]
        for name in ("train", "valid")
        for atoms in read(folder / "data" / f"{name}.xyz", ":")
    ]
    assert sorted(keys) == sorted(labelled(folder))
    assert sorted(keys) == sorted(path.stem for path in label_files(folder))


def test_errors_in_the_summary_are_those_of_the_models(finished):
    from mace.calculators import MACECalculator

    folder, _ = finished
    (path,) = (folder / "model").glob("*.model")
    member = path.stem.rpartition("_")[2]
    calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
    frames = read(folder / "data" / "valid.xyz", ":")
    forces, energies = [], []
    for atoms in frames:
        reference_energy, reference = atoms.info["REF_energy"], atoms.arrays["REF_forces"]
        atoms.calc = calculator
        forces.append(atoms.get_forces() - reference)
        energies.append((atoms.get_potential_energy() - reference_energy) / len(atoms))
    assert np.isfinite(forces).all()
    (errors,) = (e for e in summary(folder)["errors"] if e["who"] == f"member {member}")
    assert errors["n_structures"] == len(frames)
    assert errors["force_mae"] == pytest.approx(np.abs(forces).mean(), rel=1e-4)
    assert errors["force_rmse"] == pytest.approx(np.sqrt(np.square(forces).mean()), rel=1e-4)
    assert errors["energy_mae"] == pytest.approx(np.abs(energies).mean(), rel=1e-3)
    assert errors["energy_rmse"] == pytest.approx(np.sqrt(np.square(energies).mean()), rel=1e-3)


def test_summary_adds_up(finished):
    folder, done = finished
    found = summary(folder)
    assert sum(cost["reference_calls"] for cost in found["costs"]) == len(label_files(folder))
    assert found["n_labels"] == len(labelled(folder))
    assert found["train_size"] == AL["ACTIVE_LEARNING"]["max_set_size"]
    assert [cost["stage"] for cost in found["costs"]] == [
        "initial_dataset",
        "active_learning",
        "convergence",
    ]
    assert sum(cost["wall_seconds"] for cost in found["costs"]) < done.seconds


def test_history_has_every_validation(finished):
    folder, _ = finished
    for member in range(2):
        with (folder / "results" / f"history_member{member}.csv").open() as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
        assert epochs == sorted(set(epochs))
        assert epochs[0] == 1
        trained = [e for e in journal(folder) if isinstance(e, Trained) and member in e.trained]
        assert epochs[-1] == trained[-1].members[member].epoch


# --- running again -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["FHI_AL", "FHI_AL-initial-ds", "FHI_AL-al"])
def test_finished_run_is_recognised(finished, tmp_path, command):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    before = contents(folder)
    done = succeed(command, folder)
    assert "finished already" in done.text
    assert contents(folder) == before


def test_other_settings_in_the_same_folder_are_refused(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    journal_before = (folder / "restart" / "journal.jsonl").read_bytes()
    write_inputs(folder, al={**DETERMINISTIC, "ACTIVE_LEARNING": {"ensemble_size": 3}})
    done = call("FHI_AL", folder)
    assert done.code == 2
    assert "ensemble_size was 2, is 3" in done.text
    assert (folder / "restart" / "journal.jsonl").read_bytes() == journal_before


def test_parts_make_the_whole(finished, tmp_path):
    """FHI_AL-initial-ds and FHI_AL-al, on other ranks, do what FHI_AL does."""
    folder = write_inputs(tmp_path / "run", al=DETERMINISTIC)
    done = succeed("FHI_AL-initial-ds", folder, 2)
    assert "Active learning" not in done.text
    assert len(list((folder / "model" / "initial").glob("*.model"))) == 2
    assert not list((folder / "model").glob("*.model"))
    assert count(folder, Advanced) == 0

    succeed("FHI_AL-al", folder)
    assert labelled(folder) == labelled(finished[0])
    assert (folder / "data" / "train.xyz").exists()


def test_deterministic_runs_are_the_same_on_any_ranks(finished, tmp_path):
    folder = write_inputs(tmp_path / "run", al={"PARALLEL": {"asynchronous": False}})
    succeed("FHI_AL", folder, 3)
    assert labelled(folder) == labelled(finished[0])
    energies, alone = (
        [event.energy for event in journal(run) if isinstance(event, Labelled)]
        for run in (folder, finished[0])
    )
    assert energies == alone
    assert not (folder / "results" / "report.html").exists()  # `report: false`


def test_another_seed_gives_other_structures(start, finished, tmp_path):
    folder = write_inputs(tmp_path / "run", al={**DETERMINISTIC, "MD": {"seed": 7}})
    running = start("FHI_AL", folder)
    while len(labelled(folder)) < 8:
        assert running.alive()
        time.sleep(0.02)
    assert not set(labelled(folder)) & set(labelled(finished[0]))


# --- data of the user's own --------------------------------------------------------------------


def test_al_from_data_without_models(finished, tmp_path):
    folder = write_inputs(
        tmp_path / "run",
        al={
            "ACTIVE_LEARNING": {
                "initial_data": [str(finished[0] / "data" / "initial" / "train.xyz")],
                "max_set_size": 12,
                "max_final_epochs": 2,
            }
        },
    )
    done = succeed("FHI_AL-al", folder)
    given = read(finished[0] / "data" / "initial" / "train.xyz", ":")
    assert f"{len(given)} labels taken over" in done.text
    assert summary(folder)["n_labels"] > len(given)
    assert count(folder, Sampled) == 0
    assert list((folder / "model").glob("*.model"))


def test_al_from_data_and_models(finished, tmp_path):
    models = sorted((finished[0] / "model" / "initial").glob("*.model"))
    data = finished[0] / "data" / "initial"
    folder = write_inputs(
        tmp_path / "run",
        al={
            "ACTIVE_LEARNING": {
                "initial_data": [str(data / "train.xyz"), str(data / "valid.xyz")],
                "initial_models": [str(path) for path in models],
                "max_set_size": 12,
                "converge_al": False,
            }
        },
    )
    succeed("FHI_AL-al", folder, 2)
    # The models are used as they are: molecular dynamics comes before any training.
    kinds = [type(e) for e in journal(folder) if isinstance(e, Advanced | Trained)]
    assert kinds[0] is Advanced
    assert len(list((folder / "model").glob("*.model"))) == 2


def test_al_without_any_data(tmp_path):
    done = call("FHI_AL-al", write_inputs(tmp_path / "run"))
    assert done.code == 2
    assert "FHI_AL-initial-ds" in done.text
    assert "Traceback" not in done.text


# --- atomic energies ---------------------------------------------------------------------------


def lowest_by_tblite(number: int, spins: range) -> float:
    """Energy in eV of the isolated atom in its best spin state."""
    energies = []
    for unpaired in spins:
        calculator = Calculator("GFN2-xTB", np.array([number]), np.zeros((1, 3)), uhf=unpaired)
        calculator.set("verbosity", 0)
        energies.append(calculator.singlepoint().get("energy") * Hartree)
    return min(energies)


@pytest.mark.parametrize("ranks", [None, 2])
def test_atomic_energies(tmp_path, ranks):
    folder = write_inputs(tmp_path / "run")
    done = succeed("FHI_AL-atomic-energies", folder, ranks)
    found = yaml.safe_load((folder / "results" / "atomic_energies.yaml").read_text())
    energies = found["ARCHITECTURE"]["atomic_energies"]
    assert energies == {
        "H": pytest.approx(lowest_by_tblite(1, range(1, 2)), abs=1e-6),
        "O": pytest.approx(lowest_by_tblite(8, range(0, 5, 2)), abs=1e-6),
    }
    for state in ("H with 1", "O with 0", "O with 2", "O with 4"):
        assert f"{state} unpaired electrons" in done.text
    for line in (folder / "results" / "atomic_energies.yaml").read_text().splitlines():
        assert line in (folder / "atomic_energies.log").read_text()

    again = succeed("FHI_AL-atomic-energies", folder, ranks)
    assert "finished already" in again.text
    assert not (folder / "model").exists()


def test_automatic_atomic_energies_come_first_and_are_used(tmp_path):
    from mace.calculators import MACECalculator

    folder = write_inputs(
        tmp_path / "run",
        mace={"ARCHITECTURE": {"atomic_energies": "auto"}},
        al={"ACTIVE_LEARNING": {"max_initial_epochs": 1}},
    )
    succeed("FHI_AL-initial-ds", folder)
    outcomes = [e for e in journal(folder) if isinstance(e, Labelled | LabelRejected | Sampled)]
    assert [type(e) for e in outcomes].index(Sampled) == 4
    calculator = MACECalculator(
        model_paths=str(folder / "model" / "initial" / "water_0.model"),
        device="cpu",
        default_dtype="float64",
    )
    energies = calculator.models[0].atomic_energies_fn.atomic_energies.flatten().tolist()
    assert energies == pytest.approx(
        [lowest_by_tblite(1, range(1, 2)), lowest_by_tblite(8, range(0, 5, 2))], abs=1e-5
    )
    assert summary(folder)["costs"][0]["stage"] == "atomic_energies"
    assert Path(folder / "atomic_energies.log").exists()
