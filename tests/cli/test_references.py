"""Runs with other ways to begin and other references: ab initio MD, an ASI library, failures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read
from ase.md.verlet import VelocityVerlet
from asi_library.build import SPECIES_DIR
from cli_runs import (
    DETERMINISTIC,
    call,
    count,
    journal,
    label_files,
    labelled,
    succeed,
    summary,
    write_inputs,
)
from cli_watch import watch
from tblite.interface import Calculator as Tblite

from fhi_al.record.events import Labelled, LabelRejected
from fhi_al.record.labels import LabelStore

MOVING_WATER = """\
atom 0.0 0.0 0.119 O
    velocity 0.0 0.0 0.0
atom 0.0 0.763 -0.477 H
    velocity 5.0 3.0 -2.0
atom 0.0 -0.763 -0.477 H
    velocity -5.0 -3.0 2.0
"""


class _Xtb(Calculator):
    """GFN2-xTB by tblite alone, a fresh calculation for each structure."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        calculator = Tblite("GFN2-xTB", atoms.numbers, atoms.positions / units.Bohr)
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
        self.results = {
            "energy": result.get("energy") * units.Hartree,
            "forces": -result.get("gradient") * units.Hartree / units.Bohr,
        }


def test_ab_initio_molecular_dynamics(start, tmp_path):
    """Every step is a label; a kill in the middle leaves no trace in the trajectory."""
    folder = write_inputs(
        tmp_path / "run",
        geometry=MOVING_WATER,
        al={
            **DETERMINISTIC,
            "ACTIVE_LEARNING": {
                "initial_sampling": "aimd",
                "skip_step_initial": 2,
                "n_samples": 3,
                "initial_intermediate_epochs": 2,
                "max_initial_epochs": 2,
            },
            "MD": {"stat_ensemble": "nve", "timestep_fs": 0.4},
        },
    )
    running = start("FHI_AL-initial-ds", folder)
    while count(folder, Labelled) < 5:
        assert running.alive()
    running.kill()
    succeed("FHI_AL-initial-ds", folder)

    # Six samples, two steps apart, and the start.
    keys = labelled(folder)
    assert len(keys) == 13
    assert sorted(keys) == sorted(path.stem for path in label_files(folder))
    assert summary(folder)["n_labels"] == 6

    store = LabelStore(folder / "restart" / "labels")
    atoms = Atoms("OHH", store.get(keys[0]).structure.positions, calculator=_Xtb())
    np.testing.assert_allclose(atoms.positions[1], [0, 0.763, -0.477])
    atoms.set_velocities(np.array([[0, 0, 0], [5, 3, -2], [-5, -3, 2]]) * 1e-3 / units.fs)
    dynamics = VelocityVerlet(atoms, timestep=0.4 * units.fs)
    for step, key in enumerate(keys):
        if step:
            dynamics.run(1)
        label = store.get(key)
        np.testing.assert_allclose(label.structure.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-6)


def test_whole_run_with_an_asi_library(start, tmp_path, toy_asi):
    """Three ranks, two of them in the library; now and then its SCF fails."""
    calls = tmp_path / "calls.txt"
    folder = write_inputs(
        tmp_path / "run",
        control=(f"xc pbe\nrelativistic none\ntoy_unconverged_below 0.91\ntoy_call_log {calls}\n"),
        al={
            "REFERENCE": {
                "engine": "asi",
                "library": str(toy_asi),
                "species_dir": str(SPECIES_DIR),
            }
        },
    )
    running = start("FHI_AL", folder, 3)
    seen = watch(running)
    done = running.wait()
    assert done.code == 0, done.text

    rejected = [e for e in journal(folder) if isinstance(e, LabelRejected)]
    assert rejected
    assert all("SCF" in event.reason for event in rejected)
    assert f"{rejected[0].key[:12]} has no label" in done.text
    assert summary(folder)["n_rejected"] == len(rejected)
    assert len(calls.read_text().splitlines()) == len(label_files(folder)) + len(rejected)

    frames = [f for name in ("train", "valid") for f in read(folder / "data" / f"{name}.xyz", ":")]
    assert sorted(f.info["fhi_al_key"] for f in frames) == sorted(labelled(folder))
    # The library's own criterion, so that a failed SCF can't have got in.
    assert all(min(f.get_distances(0, [1, 2])) >= 0.91 - 1e-6 for f in frames)
    assert list((folder / "model").glob("*.model"))
    for rank in (1, 2):
        assert not seen[rank].torch


@pytest.mark.parametrize("ranks", [None, 2])
def test_reference_that_always_fails_ends_the_run(tmp_path, ranks):
    folder = write_inputs(
        tmp_path / "run", al={"REFERENCE": {"engine": "xtb", "max_iterations": 1}}
    )
    done = call("FHI_AL", folder, ranks, timeout=60)
    assert done.code == 1
    assert "10 of 10 reference calculations failed" in done.text
    assert "max_failed_fraction" in done.text
    assert "control.in" in done.text
    assert "Traceback" not in done.text
    assert not label_files(folder)
    # The advice is in the log file as well.
    assert "max_failed_fraction" in (folder / "initial_dataset.log").read_text()


def test_memory_and_imports_by_rank(start, finished, tmp_path):
    """A rank that only drives a reference stays small; torch is where it is needed."""
    test_set = finished[0] / "data" / "train.xyz"
    folder = write_inputs(
        tmp_path / "run",
        al={"ACTIVE_LEARNING": {"analysis": True, "sanity_skip": 10, "test_set": str(test_set)}},
    )
    running = start("FHI_AL", folder, 2)
    seen = watch(running)
    done = running.wait()
    assert done.code == 0, done.text
    print({rank: f"{use.peak_mb:.0f} MB" for rank, use in sorted(seen.items())})
    assert seen[0].torch
    assert seen[0].peak_mb < 1500
    assert not seen[1].torch
    assert seen[1].peak_mb < 300
    found = summary(folder)
    assert found["peak_memory_mb"] == pytest.approx([seen[r].peak_mb for r in (0, 1)], rel=0.1)

    # This run also makes sanity checks, and has a test set.
    audits = {frame.info["fhi_al_key"] for frame in read(folder / "data" / "audit.xyz", ":")}
    assert len(audits) == found["n_audit"] > 0
    for name in ("train", "valid"):
        frames = read(folder / "data" / f"{name}.xyz", ":")
        assert not audits & {frame.info["fhi_al_key"] for frame in frames}
    tested = [errors for errors in found["errors"] if errors["data"] == "test"]
    assert [errors["who"] for errors in tested] == ["member 0", "member 1", "committee"]
    assert all(errors["n_structures"] == len(read(test_set, ":")) for errors in tested)
