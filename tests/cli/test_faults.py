"""Whole runs whose reference gives wrong numbers, fails, or dies."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read
from asi_library.build import SPECIES_DIR
from cli_runs import (
    DETERMINISTIC,
    WATER,
    call,
    count,
    journal,
    labelled,
    succeed,
    summary,
    write_inputs,
)

from fhi_al.md.perturb import perturbed
from fhi_al.record.events import Died, Labelled, LabelRejected, Opened, Started
from fhi_al.settings.geometry_in import parse_geometry


def keys_of(folder, *names: str) -> set[str]:
    frames = [f for name in names for f in read(folder / "data" / f"{name}.xyz", ":")]
    return {frame.info["fhi_al_key"] for frame in frames}


def test_wrong_numbers_are_kept_aside_with_their_story(tmp_path):
    folder = tmp_path / "run"
    # ASE asks a calculator again that says it was at another geometry.
    faults = {"wrong_energy": [10, 21], "pulled": [2, 19], "moved": [5, 6]}
    write_inputs(
        folder,
        al={
            **DETERMINISTIC,
            "REFERENCE": {
                "engine": "ase",
                "calculator": "cli_calculators.Faulty",
                "arguments": {
                    "log": str(folder / "calls.txt"),
                    "trouble": str(folder / "trouble"),
                    **faults,
                },
            },
        },
    )
    done = succeed("FHI_AL", folder)
    frames = read(folder / "data" / "rejected.xyz", ":")
    assert [frame.info["fhi_al_kind"] for frame in frames] == [
        "integrity",
        "integrity",
        "outlier",
        "integrity",
        "outlier",
    ]
    pulled, moved, outlier, *_ = frames
    assert "add up to 1.04 eV/Å" in pulled.info["fhi_al_reason"]
    assert "by up to 0.01 Å" in moved.info["fhi_al_reason"]
    assert "max_energy_deviation" in outlier.info["fhi_al_reason"]
    # In Hartree: some 5 in place of some 138 eV. What the reference said is there to look at.
    assert outlier.info["fhi_al_energy"] == pytest.approx(-5.07, abs=0.1)
    assert outlier.arrays["fhi_al_forces"].shape == (3, 3)
    assert "REF_energy" not in outlier.info
    late = [frame.info for frame in frames if "fhi_al_threshold" in frame.info]
    assert late
    assert all(info["fhi_al_step"] > 0 for info in late)

    rejected = {frame.info["fhi_al_key"] for frame in frames}
    assert not rejected & keys_of(folder, "train", "valid")
    energies = [f.info["REF_energy"] for f in read(folder / "data" / "train.xyz", ":")]
    assert np.ptp(energies) < 10
    assert summary(folder)["n_rejected"] == 5
    assert "is kept aside: the energy of" in done.text
    n_train = len(read(folder / "data" / "train.xyz", ":"))
    assert summary(folder)["in_loss"] == [n_train, n_train, 0]
    told = f"{n_train} structures with energy, {n_train} with forces, 0 with stress"
    assert told in " ".join(done.text.split())
    assert "member 0 trains on" in done.text

    # The file follows from the journal: what a kill has left out of it comes back.
    whole = (folder / "data" / "rejected.xyz").read_text()
    shutil.copytree(folder, tmp_path / "again")
    (tmp_path / "again" / "data" / "rejected.xyz").unlink()
    path = tmp_path / "again" / "restart" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-4]))
    succeed("FHI_AL", tmp_path / "again")
    assert (tmp_path / "again" / "data" / "rejected.xyz").read_text() == whole
    assert labelled(tmp_path / "again") == labelled(folder)


def test_a_rescued_label_says_so(tmp_path):
    folder = write_inputs(
        tmp_path / "run",
        al={
            "REFERENCE": {
                "engine": "xtb",
                "max_iterations": 1,
                "scf_rescue": [{"max_iterations": 2}, {"max_iterations": 250}],
            },
            "ACTIVE_LEARNING": {"initial_intermediate_epochs": 1, "max_initial_epochs": 1},
        },
    )
    done = succeed("FHI_AL-initial-ds", folder)
    assert count(folder, LabelRejected) == 0
    events = journal(folder)
    assert all(e.rescue == "max_iterations 250" for e in events if isinstance(e, Labelled))
    (opened,) = (event for event in events if isinstance(event, Opened))
    assert opened.inputs["REFERENCE.scf_rescue"] == [{"max_iterations": 2}, {"max_iterations": 250}]
    frames = read(folder / "data" / "initial" / "train.xyz", ":")
    assert all(frame.info["fhi_al_attempts"] == 3 for frame in frames)
    assert "rescued with max_iterations 250" in done.text
    assert not (folder / "data" / "rejected.xyz").exists()


def asi_run(folder: Path, library: Path, control: str, **settings) -> Path:
    """Inputs of a short initial dataset by an ASI library, one structure after the other."""
    return write_inputs(
        folder,
        control=f"xc pbe\nrelativistic none\ntoy_call_log {folder / 'calls.txt'}\n{control}\n",
        al={
            **DETERMINISTIC,
            "ACTIVE_LEARNING": {
                "initial_intermediate_epochs": 1,
                "max_initial_epochs": 1,
                **settings,
            },
            "REFERENCE": {
                "engine": "asi",
                "library": str(library),
                "species_dir": str(SPECIES_DIR),
            },
        },
    )


def n_calls(folder: Path) -> int:
    path = folder / "calls.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_structure_that_kills_the_library_is_rejected(tmp_path, toy_asi):
    """By MPI_Abort on two ranks, like FHI-aims; after two crashes it is given up."""
    # The sampled structures are the same in every run: single one out.
    water, _ = parse_geometry(WATER)
    samples = [perturbed(water, 42, index, 0.03, 0.0).to_atoms() for index in range(8)]
    lengths = sorted(min(atoms.get_distances(0, [1, 2])) for atoms in samples)
    between = (lengths[0] + lengths[1]) / 2

    folder = asi_run(tmp_path / "run", toy_asi, f"toy_abort_below {between}", max_label_starts=2)
    done = call("FHI_AL-initial-ds", folder, 3)
    assert done.code not in (0, 2), done.text
    before = n_calls(folder)
    assert count(folder, Died) == 0
    done = call("FHI_AL-initial-ds", folder, 3)
    assert done.code not in (0, 2), done.text
    assert "crashed the reference library (MPI_Abort)" in done.text
    assert "it is tried again, alone, up to 1 times" in done.text
    # Nothing else was in work beside it.
    assert n_calls(folder) == before + 1
    events = journal(folder)
    started = events[max(i for i, e in enumerate(events) if isinstance(e, Died)) + 1 :]
    assert [e.effect for e in started if isinstance(e, Started)] == [f"label-{killer_of(events)}"]

    done = call("FHI_AL-initial-ds", folder, 3)
    assert done.code == 0, done.text
    (frame,) = read(folder / "data" / "rejected.xyz", ":")
    assert frame.info["fhi_al_kind"] == "library death"
    assert frame.info["fhi_al_attempts"] == 2
    assert "crashed with it 2 times" in frame.info["fhi_al_reason"]
    assert "two atoms at" in frame.info["fhi_al_reason"]
    assert frame.get_distances(0, [1, 2]).min() < between
    assert frame.info["fhi_al_key"] not in labelled(folder)
    assert len(labelled(folder)) == len(lengths) - 1
    assert n_calls(folder) == len(lengths) + 1


def killer_of(events) -> str:
    (key,) = {event.key for event in events if isinstance(event, Died)}
    return key


def test_a_structure_that_was_in_work_at_every_kill_still_lands(start, tmp_path, toy_asi):
    folder = asi_run(tmp_path / "run", toy_asi, "toy_sleep_s 1", n_samples=2, max_label_starts=1)
    for kills in (1, 2):
        running = start("FHI_AL-initial-ds", folder, 3)
        while n_calls(folder) < kills:
            assert running.alive()
            time.sleep(0.02)
        # The last rank is one of the library's.
        os.kill(running.pids()[-1], signal.SIGKILL)
        assert running.wait(30).code != 0
    assert not labelled(folder)
    done = call("FHI_AL-initial-ds", folder, 3)
    assert done.code == 0, done.text
    assert count(folder, Died) == count(folder, LabelRejected) == 0
    assert len(labelled(folder)) == 4
    assert n_calls(folder) == 4 + 2


def test_a_rejected_structure_is_retried_on_request(tmp_path):
    folder = tmp_path / "run"
    files = {"log": str(folder / "calls.txt"), "trouble": str(folder / "trouble")}
    write_inputs(
        folder,
        al={
            **DETERMINISTIC,
            "ACTIVE_LEARNING": {
                "initial_intermediate_epochs": 1,
                "max_initial_epochs": 1,
                "max_set_size": 5,
                "converge_al": False,
            },
            "REFERENCE": {
                "engine": "ase",
                "calculator": "cli_calculators.Faulty",
                "arguments": {**files, "pulled": [2]},
            },
        },
    )
    succeed("FHI_AL-initial-ds", folder)
    (rejected,) = read(folder / "data" / "rejected.xyz", ":")
    done = call("FHI_AL", folder, options=("--retry-rejected",))
    assert done.code == 0, done.text
    assert "1 rejected structures are tried again" in done.text
    assert not (folder / "data" / "rejected.xyz").exists()
    assert rejected.info["fhi_al_key"] in keys_of(folder, "train", "valid")
    assert summary(folder)["n_rejected"] == 0


def test_damaged_models_end_the_run_with_advice(finished, tmp_path):
    """They are found at the first step, and the reference is not asked for ever."""
    source, _ = finished
    models = []
    for member in range(2):
        model = torch.load(source / "model" / "water_0.model", weights_only=False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        models.append(str(tmp_path / f"damaged_{member}.model"))
        torch.save(model, models[-1])
    folder = write_inputs(
        tmp_path / "run",
        al={
            "ACTIVE_LEARNING": {
                "initial_data": str(source / "data" / "train.xyz"),
                "initial_models": models,
            }
        },
    )
    done = call("FHI_AL-al", folder)
    assert done.code == 1, done.text
    assert "their weights are damaged" in " ".join(done.text.split())
    assert "Traceback" not in done.text
    assert not labelled(folder)
