"""Kills and broken workers: nothing finished is lost, and the same command goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ase.io import read
from cli_runs import (
    DETERMINISTIC,
    Running,
    call,
    journal,
    label_files,
    labelled,
    n_commands,
    write_inputs,
)

from fhi_al.record.events import Failed, Labelled

CALLS, TROUBLE = "calls.txt", "trouble"


def logged_xtb(folder: Path, **sections: Any) -> Path:
    """Inputs of a run whose reference writes down every call."""
    arguments = {"log": str(folder / CALLS), "trouble": str(folder / TROUBLE)}
    reference = {
        "engine": "ase",
        "calculator": "cli_calculators.LoggedXtb",
        "arguments": arguments,
    }
    return write_inputs(folder, al={**sections, "REFERENCE": reference})


def calls(folder: Path) -> list[str]:
    """The structures that the reference was asked for, in order."""
    return (folder / CALLS).read_text().split()


def n_records(folder: Path) -> int:
    path = folder / "restart" / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_records(running: Running, folder: Path, number: int) -> bool:
    """Wait until the journal has so many records; False if the command ends before."""
    while n_records(folder) < number:
        if not running.alive():
            return False
        time.sleep(0.002)
    return True


def kill_one_rank(running: Running, index: int) -> None:
    """mpirun must end the others, soon."""
    os.kill(running.pids()[index], signal.SIGKILL)
    assert running.wait(30).code != 0


def check_labels(folder: Path, kills: int, in_work: int) -> None:
    """No label lost, none computed twice but those that were in work at a kill."""
    asked = Counter(calls(folder))
    keys = labelled(folder)
    assert len(set(keys)) == len(keys)
    assert sorted(keys) == sorted(path.stem for path in label_files(folder))
    assert len(asked) == len(keys)
    repeated = sum(asked.values()) - len(asked)
    assert repeated <= kills * in_work
    # Each call that was worth its time is in the books once.
    paid = sum(isinstance(e, Labelled) and e.seconds > 0 for e in journal(folder))
    assert paid <= len(keys)
    print(f"{kills} kills, {len(keys)} labels, {repeated} repeated calls")


def test_killed_again_and_again_on_one_rank(start, finished, tmp_path):
    """In deterministic mode the run ends as if nothing had happened."""
    folder = logged_xtb(tmp_path / "run", **DETERMINISTIC)
    whole = n_records(finished[0])
    rng = random.Random(1)
    kills = 0
    for part in range(4):
        running = start("FHI_AL", folder)
        instant = int((part + rng.random()) * whole / 4)
        assert wait_for_records(running, folder, max(instant, n_records(folder) + 2))
        time.sleep(0.1 * rng.random())
        running.kill()
        kills += 1
    done = call("FHI_AL", folder)
    assert done.code == 0, done.text
    assert n_commands(folder) == kills + 1
    check_labels(folder, kills, in_work=1)

    energies = [e.energy for e in journal(folder) if isinstance(e, Labelled)]
    assert energies == [e.energy for e in journal(finished[0]) if isinstance(e, Labelled)]
    for name in ("train", "valid"):
        ours, theirs = (
            [atoms.info["REF_energy"] for atoms in read(run / "data" / f"{name}.xyz", ":")]
            for run in (folder, finished[0])
        )
        assert ours == theirs


def test_killed_again_and_again_on_three_ranks(start, tmp_path):
    folder = logged_xtb(tmp_path / "run", PARALLEL={"reference_groups": 2})
    rng = random.Random(2)
    kills = 0
    for part, one_rank in enumerate((False, True, False)):
        running = start("FHI_AL", folder, 3)
        instant = 5 + int(25 * (part + rng.random()))
        assert wait_for_records(running, folder, max(instant, n_records(folder) + 2))
        time.sleep(0.1 * rng.random())
        if one_rank:
            kill_one_rank(running, rng.randrange(3))
        else:
            running.kill()
        kills += 1
    done = call("FHI_AL", folder, 3)
    assert done.code == 0, done.text
    check_labels(folder, kills, in_work=2)
    keys = [
        atoms.info["fhi_al_key"]
        for name in ("train", "valid")
        for atoms in read(folder / "data" / f"{name}.xyz", ":")
    ]
    assert sorted(keys) == sorted(labelled(folder))


def test_no_rank_outlives_mpirun(start, tmp_path):
    """Or two jobs would write to the journal once the user starts the next."""
    epochs = {"initial_intermediate_epochs": 2000, "max_initial_epochs": 2000}
    folder = write_inputs(tmp_path / "run", al={"ACTIVE_LEARNING": epochs})
    running = start("FHI_AL", folder, 3)
    assert wait_for_records(running, folder, 5)
    ranks = [Path(f"/proc/{pid}") for pid in running.pids()]
    assert len(ranks) == 3
    running.kill_launcher()
    # Left to themselves, Open MPI's ranks notice after some four seconds.
    deadline = time.monotonic() + 2
    while any(rank.exists() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("ranks", [1, 3])
def test_no_rank_outlives_a_launcher_that_is_killed_at_once(start, tmp_path, ranks):
    """Whether they have found each other already, or are only about to."""
    folder = write_inputs(tmp_path / "run")
    for seconds in (0.3, 0.6, 1.0, 1.5):
        running = start("FHI_AL", folder, ranks)
        time.sleep(seconds)
        processes = [Path(f"/proc/{pid}") for pid in running.pids()]
        running.kill_launcher()
        deadline = time.monotonic() + 10
        while any(process.exists() for process in processes):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_rank_that_finds_no_other_does_not_begin(tmp_path):
    """The library is another MPI's than the launcher's, say."""
    folder = write_inputs(tmp_path / "run")
    done = call("FHI_AL", folder, OMPI_COMM_WORLD_SIZE="3", OMPI_COMM_WORLD_RANK="1")
    assert done.code == 2
    assert "has started 3 processes, but MPI finds 1" in done.text
    assert not (folder / "restart").exists()


def test_al_waits_for_the_initial_dataset(start, tmp_path):
    folder = write_inputs(tmp_path / "run")
    running = start("FHI_AL-initial-ds", folder)
    assert wait_for_records(running, folder, 5)
    running.kill()
    before = (folder / "restart" / "journal.jsonl").read_bytes()
    done = call("FHI_AL-al", folder)
    assert done.code == 2
    assert "not finished" in done.text
    assert "FHI_AL-initial-ds" in done.text
    assert (folder / "restart" / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("how", "ranks"), [("error", 3), ("error", None), ("exit", 3), ("abort", 3), ("exit", None)]
)
def test_broken_reference_ends_the_job(start, tmp_path, how, ranks):
    folder = logged_xtb(
        tmp_path / "run",
        ACTIVE_LEARNING={"initial_intermediate_epochs": 2, "max_initial_epochs": 2},
        # One at a time, so that two labels are in the journal before the third call.
        **DETERMINISTIC,
    )
    (folder / TROUBLE).write_text(how)
    running = start("FHI_AL-initial-ds", folder, ranks)
    while not (folder / CALLS).exists() or len(calls(folder)) < 3:
        assert running.alive()
        time.sleep(0.01)
    broke = time.monotonic()
    done = running.wait(60)
    # Three times what users are promised.
    assert time.monotonic() - broke < 30
    assert done.code not in (0, 2), done.text
    assert len(labelled(folder)) == 2
    assert len(calls(folder)) == 3
    if how == "error":
        assert "the calculator was told to fail" in done.text
        (failed,) = (e for e in journal(folder) if isinstance(e, Failed))
        assert "cli_calculators.py" in failed.traceback
        assert (failed.rank == 0) is (ranks is None)
        if ranks is not None:
            assert f"rank {failed.rank} on {socket.gethostname()}" in done.text
            # In the log file, not only on the terminal.
            assert failed.traceback in (folder / "initial_dataset.log").read_text()

    (folder / TROUBLE).unlink()
    if how == "error":
        assert call("FHI_AL-initial-ds", folder, ranks).code == 0
        check_labels(folder, kills=1, in_work=1)


@pytest.mark.parametrize("ranks", [None, 3])
def test_damaged_journal_is_refused(finished, tmp_path, ranks):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    path = folder / "restart" / "journal.jsonl"
    damaged = bytearray(path.read_bytes())
    damaged[2000] ^= 1
    path.write_bytes(damaged)
    done = call("FHI_AL", folder, ranks, timeout=60)
    assert done.code == 1
    assert done.text.count(f"{path}: record ") == 1
    assert "backup" in done.text
    assert "Traceback" not in done.text
    assert path.read_bytes() == damaged
