"""`FHI_AL-recalculate`: other labels for a dataset, each computed once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from ase.units import Bohr, Hartree
from cli_runs import Done, ask, call, contents, journal, write_inputs
from tblite.interface import Calculator

from fhi_al.record.events import Event, Labelled, LabelRejected

GFN1 = {"REFERENCE": {"engine": "xtb", "method": "GFN1-xTB"}}


def recalculate(directory: Path, dataset: Path, *options: str, ranks: int | None = None) -> Done:
    return call("FHI_AL-recalculate", directory, ranks, options=[str(dataset), *options])


def gfn1(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy in eV and forces in eV/Å, from tblite alone."""
    calculator = Calculator("GFN1-xTB", atoms.numbers, atoms.positions / Bohr)
    calculator.set("verbosity", 0)
    result = calculator.singlepoint()
    return result.get("energy") * Hartree, -result.get("gradient") * Hartree / Bohr


def waters(path: Path, count: int) -> list[Atoms]:
    """A dataset of distorted water molecules that says more than MACE needs."""
    frames = []
    for seed in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        atoms.info.update(REF_energy=-1.0, config_type="hot", serial=seed)
        frames.append(atoms)
    write(path, frames)
    return frames


def events(directory: Path, kind: type[Event]) -> list[Event]:
    """Of the only recalculation in this folder."""
    (path,) = (directory / "restart").glob("recalculate-*.jsonl")
    return [event for event in journal(directory, path.name) if isinstance(event, kind)]


@pytest.mark.parametrize("ranks", [None, 3])
def test_dataset_of_a_run_with_another_method(finished, ranks, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    write_inputs(folder, al=GFN1)
    shutil.rmtree(folder / "restart" / "deaths")  # made anew by every command
    before = contents(folder)
    data = folder / "data" / "valid.xyz"
    done = recalculate(folder, data, ranks=ranks)
    assert done.code == 0, done.text
    old, new = read(data, ":"), read(folder / "data" / "valid-recalculated.xyz", ":")
    assert len(old) == len(new) > 0
    for former, atoms in zip(old, new, strict=True):
        np.testing.assert_array_equal(atoms.positions, former.positions)
        energy, forces = gfn1(atoms)
        assert atoms.info["REF_energy"] == pytest.approx(energy, abs=1e-4)
        assert abs(atoms.info["REF_energy"] - former.info["REF_energy"]) > 1
        np.testing.assert_allclose(atoms.arrays["REF_forces"], forces, atol=1e-3)
        assert atoms.info["fhi_al_method"] == "GFN1-xTB"
    # The run is as it was: only labels and a journal have come.
    after = contents(folder)
    assert before.items() <= after.items()
    added = {name.partition("/")[0] for name in set(after) - set(before)}
    assert added == {"restart", "data", "recalculate.log"}

    done = recalculate(folder, data, "--output", str(tmp_path / "again.xyz"))
    assert done.code == 0, done.text
    assert "finished already" in done.text
    assert len(events(folder, Labelled)) == len(old)
    assert len(read(tmp_path / "again.xyz", ":")) == len(old)


def test_each_structure_is_computed_once_whatever_happens(tmp_path):
    log, trouble = tmp_path / "calls", tmp_path / "trouble"
    reference = {
        "engine": "ase",
        "calculator": "cli_calculators.LoggedXtb",
        "arguments": {"log": str(log), "trouble": str(trouble)},
    }
    folder = write_inputs(tmp_path / "run", al={"REFERENCE": reference})
    frames = waters(tmp_path / "data.xyz", 6)
    # One of them twice.
    write(tmp_path / "data.xyz", frames[2], append=True)
    trouble.write_text("exit")
    done = recalculate(folder, tmp_path / "data.xyz")
    assert done.code != 0
    assert not (tmp_path / "data-recalculated.xyz").exists()
    assert len(log.read_text().splitlines()) == 3

    trouble.unlink()
    done = recalculate(folder, tmp_path / "data.xyz")
    assert done.code == 0, done.text
    # The one that was cut off began again.
    calls = log.read_text().splitlines()
    assert (len(calls), len(set(calls))) == (7, 6)
    found = read(tmp_path / "data-recalculated.xyz", ":")
    assert [atoms.info["serial"] for atoms in found] == [0, 1, 2, 3, 4, 5, 2]
    assert found[6].info["REF_energy"] == found[2].info["REF_energy"]
    assert all(atoms.info["config_type"] == "hot" for atoms in found)

    # Another dataset is another recalculation, and computes what is new in it.
    write(tmp_path / "more.xyz", [frames[0], *waters(tmp_path / "data.xyz", 7)[-1:]])
    done = recalculate(folder, tmp_path / "more.xyz")
    assert done.code == 0, done.text
    assert len(log.read_text().splitlines()) == 8


def test_structures_that_fail_are_kept_aside(tmp_path):
    folder = write_inputs(tmp_path / "run")
    frames = waters(tmp_path / "data.xyz", 4)
    frames[1].set_initial_charges([20.0, 0.0, 0.0])
    write(tmp_path / "data.xyz", frames)
    done = recalculate(folder, tmp_path / "data.xyz")
    assert done.code == 0, done.text
    assert "1 structures have no label" in done.text
    found = read(tmp_path / "data-recalculated.xyz", ":")
    assert [atoms.info["serial"] for atoms in found] == [0, 2, 3]
    (rejected,) = read(tmp_path / "data-recalculated-rejected.xyz", ":")
    assert rejected.info["serial"] == 1
    assert "electrons" in rejected.info["fhi_al_reason"]
    assert "REF_energy" not in rejected.info

    assert len(events(folder, LabelRejected)) == 1
    recalculate(folder, tmp_path / "data.xyz")
    assert len(events(folder, LabelRejected)) == 1
    done = recalculate(folder, tmp_path / "data.xyz", "--retry-rejected")
    assert done.code == 0, done.text
    assert len(events(folder, LabelRejected)) == 2
    assert len(events(folder, Labelled)) == 3

    status = json.loads(ask(folder, "FHI_AL-status", "--json").stdout)
    told = (status["goal"], status["condition"], status["reference_calls"])
    assert told == ("recalculate", "finished", 5)
    checked = ask(folder, "FHI_AL-journal", "check")
    assert checked.returncode == 0, checked.stderr
    assert "3 of 3 labels are whole" in checked.stdout
    (journal_file,) = (folder / "restart").glob("*.jsonl")
    (folder / "restart" / "recalculate-another.jsonl").write_bytes(journal_file.read_bytes())
    several = ask(folder, "FHI_AL-journal", "show")
    assert several.returncode == 2
    assert f"name one of them: {journal_file.name}, recalculate-another.jsonl" in several.stderr
    shown = ask(folder, "FHI_AL-journal", "show", "--tail", "1", str(journal_file))
    assert "finished" in shown.stdout


def test_what_cannot_be_recalculated(tmp_path):
    folder = write_inputs(tmp_path / "run")
    (tmp_path / "text.xyz").write_text("no structures")
    waters(tmp_path / "data.xyz", 1)
    heavy = Atoms("Og", positions=[[0, 0, 0]])
    write(tmp_path / "heavy.xyz", heavy)
    before = contents(folder)
    for words, says in (
        ([tmp_path / "nothing.xyz"], "nothing.xyz can't be read as structures"),
        ([tmp_path / "text.xyz"], "text.xyz can't be read as structures"),
        (
            [tmp_path / "data.xyz", "--output", str(tmp_path / "data.xyz")],
            "would be overwritten",
        ),
        ([tmp_path / "heavy.xyz"], "no parameters for Og"),
    ):
        done = recalculate(folder, *words)
        assert done.code == 2, done.text
        assert says in done.text
        assert "Traceback" not in done.text
        assert contents(folder) == before
