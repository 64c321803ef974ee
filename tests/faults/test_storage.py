"""Full disks: the run says which file, ends, and goes on once there is room."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cli_runs import Done, Running, call, journal, labelled, write_inputs
from fault_runs import TROUBLE, logged_run

from fhi_al.record.events import Exported

SHORT = {"initial_intermediate_epochs": 2, "max_initial_epochs": 2, "n_samples": 2}


def check_refusal(folder: Path, done: Done, what: str) -> None:
    """The command named the file and the reason; the next one goes on."""
    assert done.code == 1, done.text
    assert [line for line in done.text.splitlines() if "File too large" in line and what in line]
    assert "can't be written" in done.text
    assert "free space" in done.text
    assert "internal error" not in done.text
    assert "Traceback" not in done.text
    assert not (folder / "restart" / "lock").exists()
    before = labelled(folder)

    done = call("FHI_AL-initial-ds", folder)
    assert done.code == 0, done.text
    assert labelled(folder)[: len(before)] == before


@pytest.mark.parametrize(
    ("limit", "what"),
    [(300, "as_given"), (10_700, "restart/labels"), (300_000, "checkpoints/train-0-0")],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, limit: int, what: str) -> None:
    folder = write_inputs(tmp_path / "run", al={"ACTIVE_LEARNING": SHORT})
    check_refusal(folder, Running("FHI_AL-initial-ds", folder, limit=limit).wait(), what)


def test_another_rank_that_can_not_write_ends_the_job(tmp_path: Path) -> None:
    folder = logged_run(tmp_path / "run", ACTIVE_LEARNING=SHORT)
    (folder / TROUBLE).write_text("full")
    done = call("FHI_AL-initial-ds", folder, 3)
    (folder / TROUBLE).unlink()
    assert "rank 2 on" in done.text or "rank 1 on" in done.text
    check_refusal(folder, done, "restart/labels")


def mounted(path: Path) -> bool:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted(disk):
        pytest.skip("no right to mount a small file system")
    try:
        folder = write_inputs(disk / "run", al={"ACTIVE_LEARNING": SHORT})
        done = call("FHI_AL-initial-ds", folder, timeout=120)
        # (The output of the command is in the same folder; what it says may not fit either.)
        assert done.code == 1
        before = labelled(folder)
        moved = shutil.copytree(folder, tmp_path / "run")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    done = call("FHI_AL-initial-ds", moved)
    assert done.code == 0, done.text
    assert labelled(moved)[: len(before)] == before
    assert any(isinstance(event, Exported) for event in journal(moved))
