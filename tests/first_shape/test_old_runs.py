"""Runs that the first shape of the program (commit 65e7cb0) has left are read, and go on.

The folders are as that program wrote them; `record.py` says how. Here is nothing but commands and
files, so that these tests can stay as they are, whatever becomes of the program.
"""

from __future__ import annotations

import csv
import json
import os
import re
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ase.io import read
from cli_runs import Done, ask, call

HERE = Path(__file__).parent

# name: the command that goes on, its ranks
COMMANDS = {
    "initial_dataset": ("FHI_AL", None),
    "dynamics": ("FHI_AL", 2),
    "training": ("FHI_AL-al", None),
    "convergence": ("FHI_AL", None),
    "faults": ("FHI_AL", None),
}
# Where the last call of the reference had no outcome.
CUT_OFF = {"initial_dataset", "dynamics", "faults", "atomic_energies", "finished"}
# What FHI_AL-status is to say as it did then; the rest depends on the time, or on the ranks.
LASTING = (
    "name",
    "goal",
    "stage",
    "commands",
    "train_size",
    "n_valid",
    "n_audit",
    "reference_calls",
    "n_rejected",
    "trajectories",
    "thresholds",
    "accuracy",
)


@dataclass(frozen=True)
class OldRun:
    """A recorded run.

    Attributes:
        name: of its archive.
        folder: of the run.
        journal: the file.
        record: its journal, as the old program left it.
        files: path -> time of writing, of the labels that it left.
    """

    name: str
    folder: Path
    journal: Path
    record: bytes
    files: dict[Path, int]

    @classmethod
    def unpack(cls, name: str, directory: Path) -> OldRun:
        with tarfile.open(HERE / f"{name}.tar.xz") as archive:
            archive.extractall(directory, filter="data")
        folder = directory / "run"
        files = {path: path.stat().st_mtime_ns for path in labels(folder)}
        own = name if name == "atomic_energies" else "journal"
        journal = folder / "restart" / f"{own}.jsonl"
        return cls(name, folder, journal, journal.read_bytes(), files)

    def told(self, name: str) -> str:
        """What the old program has said: `status.json` or `shown.txt`; or its calls."""
        return (self.folder.parent / name).read_text()

    def events(self) -> list[dict[str, Any]]:
        """The old program's records, without one that was torn."""
        lines = [line for line in self.record.splitlines(keepends=True) if line.endswith(b"\n")]
        return [json.loads(line.split(b" ", 3)[3]) for line in lines]

    def go_on(self, command: str, *options: str, ranks: int | None = None) -> Done:
        """Run a command, with a reference that writes down its calls."""
        paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        calls = str(self.folder.parent / "new_calls.txt")
        variables = {"COUNTED_XTB": calls, "PYTHONPATH": paths}
        return call(command, self.folder, ranks, options=options, **variables)

    def check_calls(self) -> None:
        """No structure was computed again but the one that was in work at the kill."""
        old = self.told("calls.txt").split()
        path = self.folder.parent / "new_calls.txt"
        new = Counter(path.read_text().split() if path.exists() else [])
        finished = old[:-1] if self.name in CUT_OFF else old
        assert not set(finished) & set(new)
        assert set(new.values()) <= {1}
        if self.name in CUT_OFF:
            assert old[-1] in new
        for file, written in self.files.items():
            assert file.stat().st_mtime_ns == written


def labels(folder: Path) -> list[Path]:
    return sorted((folder / "restart" / "labels").glob("*/*.h5"))


def status(folder: Path) -> dict[str, Any]:
    done = ask(folder, "FHI_AL-status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shown(folder: Path) -> list[str]:
    done = ask(folder, "FHI_AL-journal", "show")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def kinds(lines: list[str]) -> list[str]:
    """Of the events, by what `FHI_AL-journal show` says: number, date, time, kind, fields."""
    return [line.split()[3] for line in lines]


def check_goes_on(old: OldRun, before: list[str]) -> None:
    """The records of the old program are there, and new ones behind them."""
    after = shown(old.folder)
    assert after[: len(before)] == before
    assert kinds(after)[len(before)] == "Opened"
    whole = old.record[: old.record.rindex(b"\n") + 1]
    assert old.journal.read_bytes().startswith(whole)


def check_results(folder: Path) -> None:
    """The run is whole, and can be reported and exported."""
    assert status(folder)["condition"] == "finished"
    done = ask(folder, "FHI_AL-report", "--no-predictions")
    assert done.returncode == 0, done.stderr
    assert "is not finished" not in (folder / "results" / "report.html").read_text("utf-8")
    done = ask(folder, "FHI_AL-export", "--format", "model", "--format", "extxyz")
    assert done.returncode == 0, done.stderr
    assert list((folder / "export").glob("*.model"))
    (data,) = (folder / "export").glob("*train*.xyz")
    keys = [atoms.info["fhi_al_key"] for atoms in read(data, ":")]
    assert len(set(keys)) == len(keys) >= 8


def check_models_were_taken_over(old: OldRun) -> None:
    """Each member's epochs go on, from what it had learned."""
    trained = [event for event in old.events() if event["event"] == "Trained"]
    for member, state in enumerate(trained[-1]["members"]):
        with (old.folder / "results" / f"history_member{member}.csv").open() as file:
            rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
        assert list(rows) == list(range(min(rows), max(rows) + 1))
        last = float(rows[state["epoch"]]["force_mae_eV_per_A"])
        assert last == pytest.approx(state["force_mae"])
        if following := rows.get(state["epoch"] + 1):
            # Small sets make it jump, but new models are as far off as in the first epoch.
            first = float(rows[min(rows)]["force_mae_eV_per_A"])
            assert float(following["force_mae_eV_per_A"]) < max(2 * last, first / 2)


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*COMMANDS, "atomic_energies", "finished"])
def test_an_old_folder_is_read(tmp_path: Path, name: str) -> None:
    old = OldRun.unpack(name, tmp_path)
    now, then = status(old.folder), json.loads(old.told("status.json"))
    assert {key: now[key] for key in LASTING} == {key: then[key] for key in LASTING}
    conditions = {"convergence": "stopped", "finished": "finished"}
    assert now["condition"] == conditions.get(name, "crashed")
    if name == "atomic_energies":
        return  # FHI_AL-journal knows nothing of this journal
    assert kinds(shown(old.folder)) == kinds(old.told("shown.txt").splitlines())
    assert kinds(shown(old.folder)) == [event["event"] for event in old.events()]
    done = ask(old.folder, "FHI_AL-journal", "check")
    assert done.returncode == 0, done.stdout
    n_labels = sum(event["event"] == "Labelled" for event in old.events())
    assert f"{n_labels} of {n_labels} labels are whole" in done.stdout
    moved = [event for event in old.events() if event["event"] == "Advanced"]
    steps: dict[int, int] = {}
    for event in moved:
        steps.update(zip(event["trajectories"], event["steps"], strict=True))
    assert {walker["number"]: walker["step"] for walker in now["trajectories"]} == steps
    if name == "dynamics":
        assert "3 files of walkers and weights were loaded" in done.stdout
    assert ("the last record was cut off" in done.stdout) is (name == "dynamics")
    assert old.journal.read_bytes() == old.record


# --- going on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(COMMANDS))
def test_an_old_run_goes_on_to_its_end(tmp_path: Path, name: str) -> None:
    old = OldRun.unpack(name, tmp_path)
    command, ranks = COMMANDS[name]
    before, then = shown(old.folder), status(old.folder)
    done = old.go_on(command, ranks=ranks)
    assert done.code == 0, done.text
    check_goes_on(old, before)
    old.check_calls()
    check_models_were_taken_over(old)
    now = status(old.folder)
    for walker, was in zip(now["trajectories"], then["trajectories"], strict=False):
        assert walker["step"] >= was["step"]
    check_results(old.folder)
    if name == "faults":
        # One death is in the old journal; of the other there was but the mark.
        assert kinds(before).count("Died") == 1
        assert kinds(shown(old.folder)).count("Died") == 2
        assert now["n_rejected"] >= then["n_rejected"] == 3
        reasons = {a.info["fhi_al_kind"] for a in read(old.folder / "data" / "rejected.xyz", ":")}
        assert reasons == {"scf", "integrity", "outlier"}


def test_old_atomic_energies_go_on(tmp_path: Path) -> None:
    old = OldRun.unpack("atomic_energies", tmp_path)
    done = old.go_on("FHI_AL-atomic-energies")
    assert done.code == 0, done.text
    assert old.journal.read_bytes().startswith(old.record)
    old.check_calls()
    text = (old.folder / "results" / "atomic_energies.yaml").read_text()
    assert re.findall(r"^    (\w+): -\d+\.\d+$", text, re.MULTILINE) == ["H", "O"]


def test_an_old_finished_run_is_recognised(tmp_path: Path) -> None:
    old = OldRun.unpack("finished", tmp_path)
    done = old.go_on("FHI_AL")
    assert done.code == 0, done.text
    assert "finished already" in done.text
    assert old.journal.read_bytes() == old.record
    check_results(old.folder)


def test_an_old_recalculation_goes_on(tmp_path: Path) -> None:
    old = OldRun.unpack("finished", tmp_path)
    (path,) = (old.folder / "restart").glob("recalculate-*.jsonl")
    before = path.read_bytes()
    done = old.go_on("FHI_AL-recalculate", str(old.folder / "more.xyz"))
    assert done.code == 0, done.text
    assert path.read_bytes().startswith(before)
    old.check_calls()
    assert len((tmp_path / "new_calls.txt").read_text().split()) == 3
    frames = read(old.folder / "more-recalculated.xyz", ":")
    assert len(frames) == 5
    assert all("REF_energy" in atoms.info for atoms in frames)
    assert old.journal.read_bytes() == old.record


# --- repairing ---------------------------------------------------------------------------------


def test_an_old_damaged_journal_is_repaired(tmp_path: Path) -> None:
    old = OldRun.unpack("damaged", tmp_path)
    done = old.go_on("FHI_AL")
    assert done.code == 1, done.text
    (damage,) = set(re.findall(r"record (\d+) is damaged", done.text))
    done = ask(old.folder, "FHI_AL-journal", "check")
    assert done.returncode == 1
    assert f"record {damage} is damaged" in done.stdout
    *before, problem = shown(old.folder)
    assert f"record {damage} is damaged" in problem
    assert len(before) == int(damage)
    assert old.journal.read_bytes() == old.record

    done = ask(old.folder, "FHI_AL-journal", "repair")
    assert done.returncode == 0, done.stderr
    # All checkpoints were kept, so that every sound state can be gone back to.
    assert f"--until 1 to {damage}:" in done.stdout
    done = ask(old.folder, "FHI_AL-journal", "repair", "--until", damage)
    assert done.returncode == 0, done.stderr
    (backup,) = old.journal.parent.glob("journal.jsonl.*")
    assert backup.read_bytes() == old.record
    assert shown(old.folder) == before
    done = ask(old.folder, "FHI_AL-journal", "check")
    assert done.returncode == 0, done.stdout

    done = old.go_on("FHI_AL")
    assert done.code == 0, done.text
    assert shown(old.folder)[: len(before)] == before
    old.check_calls()
    assert status(old.folder)["condition"] == "finished"
