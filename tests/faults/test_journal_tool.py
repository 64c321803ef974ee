"""`FHI_AL-journal`, and every state of a run that it can go back to."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import call, environment, label_files, labelled, succeed, write_inputs
from fault_runs import n_records

from fhi_al.cli.journal import main as journal
from fhi_al.record.journal import read_journal

PREFIXES = Path(__file__).with_name("prefixes.py")
AL = {
    "MISC": {"deterministic": True},
    "ACTIVE_LEARNING": {"max_set_size": 11, "max_final_epochs": 2, "max_initial_epochs": 10},
}
MACE = {"MISC": {"device": "cpu", "keep_checkpoints": True}}


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole deterministic run with all its checkpoints. Not to be changed: work on a copy."""
    folder = write_inputs(tmp_path_factory.mktemp("kept") / "run", al=AL, mace=MACE)
    succeed("FHI_AL", folder)
    return folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    """The run, cut off in the middle of active learning."""
    folder = shutil.copytree(kept, tmp_path / "run")
    path = folder / "restart" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) * 3 // 4]))
    return folder


def refused(folder: Path) -> str:
    """What the run says when it is to go on, which it doesn't."""
    before = (folder / "restart" / "journal.jsonl").read_bytes()
    done = call("FHI_AL", folder)
    assert done.code == 1, done.text
    assert "FHI_AL-journal check" in done.text
    assert "FHI_AL-journal repair" in done.text
    assert "Traceback" not in done.text
    assert (folder / "restart" / "journal.jsonl").read_bytes() == before
    return done.text


def checked(folder: Path, capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert journal(["check", str(folder)]) == code
    return capsys.readouterr().out


def test_all_is_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = checked(folder, capsys, 0)
    assert f"{n_records(folder)} records are whole" in text
    assert "can go on" in text
    with (folder / "restart" / "journal.jsonl").open("ab") as file:
        file.write(b"17 100 abc")
    assert "cut off (10 bytes)" in checked(folder, capsys, 0)


def test_the_events_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert journal(["show", str(folder), "--tail", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[-1].split()[0] == str(n_records(folder))
    assert journal(["show", str(folder)]) == 0
    assert "Opened" in capsys.readouterr().out.splitlines()[0]


def test_damage_in_the_middle_is_found_and_repaired(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "restart" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    damaged = b"".join(
        [*lines[:middle], lines[middle].replace(b"e", b"f", 1), *lines[middle + 1 :]]
    )
    path.write_bytes(damaged)
    assert f"record {middle} is damaged" in refused(folder)
    assert f"record {middle} is damaged" in checked(folder, capsys, 1)
    assert journal(["repair", str(folder)]) == 0
    assert f"to {middle}:" in capsys.readouterr().out
    assert path.read_bytes() == damaged
    assert journal(["repair", str(folder), "--until", str(middle + 1)]) == 2
    assert journal(["repair", str(folder), "--until", str(middle)]) == 0
    assert path.read_bytes() == b"".join(lines[:middle])
    (backup,) = path.parent.glob("journal.jsonl.*")
    assert backup.read_bytes() == damaged
    checked(folder, capsys, 0)


def test_a_missing_label_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = labelled(folder)
    path = next(path for path in label_files(folder) if path.stem == keys[-1])
    path.unlink()
    assert str(path) in refused(folder)
    assert str(path) in checked(folder, capsys, 1)
    assert journal(["repair", str(folder)]) == 0
    # Only states from before that label; its structure was deleted when it was there.
    assert f" {len(keys) - 1} labels" in capsys.readouterr().out.splitlines()[-1]


def test_exchanged_labels_are_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = label_files(folder)[:2]
    third = one.with_suffix(".tmp")
    one.rename(third)
    other.rename(one)
    third.rename(other)
    text = checked(folder, capsys, 1)
    assert text.count("holds a label of another structure") == 2


@pytest.mark.parametrize("pattern", ["checkpoints/*.pt", "restart/walkers/advance-*.h5"])
def test_missing_and_damaged_weights_and_walkers_are_found(
    folder: Path, capsys: pytest.CaptureFixture[str], pattern: str
) -> None:
    for path in folder.glob(pattern):
        path.write_bytes(path.read_bytes()[:500])
    assert "can't be read" in checked(folder, capsys, 1)
    for path in folder.glob(pattern):
        path.unlink()
    assert "is missing" in checked(folder, capsys, 1)
    if "walkers" in pattern:
        assert "are missing" in refused(folder)


def test_files_of_another_journal_are_not_taken_for_its_own(folder: Path, tmp_path: Path) -> None:
    """The same inputs, the same course, and yet another run."""
    path = folder / "restart" / "journal.jsonl"
    records, _ = read_journal(path)
    name = records[0].event.run  # type: ignore[union-attr]
    for file in folder.rglob(f"*.{name}.*"):
        file.rename(file.with_name(file.name.replace(name, "abcdef")))
    assert "belong to another journal" in refused(folder)


def test_nothing_to_repair_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert journal(["check", str(tmp_path)]) == 2
    assert "there is no journal" in capsys.readouterr().err


def go_on_from(kept: Path, tmp_path: Path, sizes: list[int]) -> None:
    """The datasets are the same, whatever prefix of the journal is left."""
    whole = shutil.copytree(kept, tmp_path / "whole")
    done = subprocess.run(
        [sys.executable, str(PREFIXES), str(whole), *map(str, sizes)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert {size: found.get(str(size)) for size in sizes} == dict.fromkeys(sizes, found["all"]), (
        done.stdout + done.stderr
    )


def test_prefixes_of_a_journal_lead_to_the_same_datasets(kept: Path, tmp_path: Path) -> None:
    whole = n_records(kept)
    rng = random.Random(3)
    sizes = sorted(rng.sample(range(1, whole), 3))
    go_on_from(kept, tmp_path, sizes)


@pytest.mark.soak
def test_every_prefix_of_a_journal_leads_to_the_same_datasets(kept: Path, tmp_path: Path) -> None:
    go_on_from(kept, tmp_path, list(range(1, n_records(kept))))


def test_a_journal_says_with_which_settings_each_command_went_on(kept: Path) -> None:
    (line, *_) = (kept / "restart" / "journal.jsonl").read_text().splitlines()
    opened = json.loads(line.split(" ", 3)[3])
    assert opened["inputs"]["ARCHITECTURE.r_max"] == 3.5
    assert opened["inputs"]["GENERAL.checkpoints_dir"] == "checkpoints"
