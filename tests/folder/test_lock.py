"""One job a folder, whatever the file system knows of locks."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fhi_al.errors import InputError, StorageError
from fhi_al.folder.lock import FolderLock, read_holder

HOLD = """
import sys, time
from pathlib import Path
from fhi_al.folder.lock import FolderLock, read_holder
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "restart"


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system without locks."""

    def refuse(file: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def leave(folder: Path, host: str, pid: int, age_s: float) -> None:
    """The file of a job that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    path.write_text(json.dumps({"host": host, "pid": pid, "time": time.time() - age_s}))
    os.utime(path, (time.time() - age_s,) * 2)


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_second_job_is_refused_and_told_who_is_there(folder: Path) -> None:
    process = hold(folder)
    with pytest.raises(InputError, match=rf"process {process.pid}, since") as error:
        FolderLock(folder)
    assert os.uname().nodename in str(error.value)
    process.communicate("")
    FolderLock(folder).release()


def test_a_killed_job_does_not_block(folder: Path) -> None:
    process = hold(folder)
    process.kill()
    process.communicate()
    assert (folder / "lock").exists()
    FolderLock(folder).release()


def test_nothing_is_left_behind(folder: Path) -> None:
    lock = FolderLock(folder)
    assert lock.beat()
    lock.release()
    assert not folder.exists()


def test_another_host_counts_as_dead_after_two_minutes_without_heartbeat(folder: Path) -> None:
    leave(folder, "elsewhere", 17, age_s=100)
    with pytest.raises(InputError, match="a job on elsewhere, process 17, since"):
        FolderLock(folder)
    leave(folder, "elsewhere", 17, age_s=130)
    FolderLock(folder).release()


@pytest.mark.usefixtures("no_flock")
def test_without_locks_the_process_decides_on_this_host(folder: Path) -> None:
    host = os.uname().nodename
    leave(folder, host, os.getppid(), age_s=1)
    with pytest.raises(InputError, match=f"process {os.getppid()}"):
        FolderLock(folder)
    leave(folder, host, dead_process(), age_s=1)
    FolderLock(folder).release()


@pytest.mark.usefixtures("no_flock")
def test_without_locks_the_heartbeat_decides_elsewhere(folder: Path) -> None:
    leave(folder, "elsewhere", 17, age_s=1)
    with pytest.raises(InputError, match="elsewhere"):
        FolderLock(folder)


def test_a_heartbeat_keeps_the_lock_fresh(folder: Path) -> None:
    lock = FolderLock(folder, host="here")
    os.utime(folder / "lock", (time.time() - 500,) * 2)
    assert lock.beat()
    assert time.time() - (folder / "lock").stat().st_mtime < 60
    lock.release()


def test_a_job_notices_that_another_took_over(folder: Path) -> None:
    lock = FolderLock(folder)
    leave(folder, "elsewhere", 17, age_s=0)
    assert not lock.beat()
    lock.release()


def test_the_holder_is_seen_from_outside(folder: Path) -> None:
    assert read_holder(folder) is None
    process = hold(folder)
    before = sorted(folder.iterdir())
    holder = read_holder(folder)
    assert holder is not None
    assert (holder.host, holder.pid) == (os.uname().nodename, process.pid)
    assert 0 <= time.time() - holder.since < 60
    assert sorted(folder.iterdir()) == before
    process.kill()
    process.communicate()
    assert (folder / "lock").exists()
    assert read_holder(folder) is None


def test_to_look_does_not_turn_a_starting_job_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(folder, os.uname().nodename, os.getpid(), age_s=1)

    def refuse(file: int, operation: int) -> None:
        raise AssertionError("the lock was tried")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert read_holder(folder) is not None


def test_a_holder_elsewhere_is_believed_for_two_minutes(folder: Path) -> None:
    leave(folder, "elsewhere", 17, age_s=100)
    holder = read_holder(folder)
    assert holder is not None
    assert holder.host == "elsewhere"
    leave(folder, "elsewhere", 17, age_s=130)
    assert read_holder(folder) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "\0" * 50])
def test_a_torn_file_does_not_block(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "lock").write_text(text)
    assert read_holder(folder) is None
    FolderLock(folder).release()


def test_a_folder_that_takes_no_files_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "restart").write_text("not a folder")
    with pytest.raises(StorageError, match="restart"):
        FolderLock(tmp_path / "restart")
