"""Files are whole or not there, and a file system that refuses is understood."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from fhi_al.errors import StorageError
from fhi_al.record.events import Started
from fhi_al.record.files import write_file, write_hdf5, write_text
from fhi_al.record.journal import Journal
from fhi_al.record.outcome import Worker

LIMIT = 4096


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may become larger than `LIMIT` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_numbers(file: h5py.File) -> None:
    file["numbers"] = np.arange(2000)


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "x" * 5000),
    "hdf5": lambda path: write_hdf5(path, write_numbers),
    "torch": lambda path: write_file(path, lambda file: torch.save(torch.ones(2000), file)),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.usefixtures("small_files")
def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(StorageError, match=f"{path} can't be written: File too large.*free space"):
        WRITERS[kind](path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_in_the_way_is_told_of(tmp_path: Path, kind: str) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StorageError, match="folder/file can't be written"):
        WRITERS[kind](tmp_path / "folder" / "file")


def test_hdf5_comes_back(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", write_numbers)
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["numbers"][()] == np.arange(2000)).all()


@pytest.mark.usefixtures("small_files")
def test_a_journal_without_room_has_whole_records_only(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    events = [
        Started(f"label-{number}", Worker("reference", 0), "Calculate") for number in range(30)
    ]
    for event in events:
        journal.append(event)
    with pytest.raises(StorageError, match=r"journal\.jsonl can't be written: File too large"):
        journal.append(*events)
    assert path.read_bytes().endswith(b"\n")
    assert list(Journal(path)) == events
    # Smaller events may still fit, and follow on.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * LIMIT, resource.RLIM_INFINITY))
    journal.append(Started("after", Worker("reference", 0), "Calculate"))
    assert list(Journal(path)) == [*events, Started("after", Worker("reference", 0), "Calculate")]
