"""A library that takes its process down leaves a mark; a kill from outside doesn't."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import HERE

from fhi_al.reference.black_box import forget_deaths, read_deaths


def end(folder, how: str) -> str:
    """End a process; what it said on standard error."""
    program = HERE / "black_box_program.py"
    command = [sys.executable, str(program), str(folder), how]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr


@pytest.mark.parametrize(
    ("how", "mark"),
    [
        ("segmentation fault", "Segmentation fault"),
        ("abort", "Aborted"),
        ("exit", "exit"),
        ("MPI_Abort", "MPI_Abort"),
    ],
)
def test_a_crash_of_the_library_leaves_a_mark(tmp_path, how, mark):
    said = end(tmp_path, how)
    (death,) = read_deaths(tmp_path)
    assert death.key == "second"
    assert death.how == mark
    assert death.words.startswith("the last words")
    # What it said about a structure that came to its end is where it belongs.
    assert said.startswith("a warning\n")
    assert read_deaths(tmp_path) == [death]
    forget_deaths(tmp_path)
    assert not list(tmp_path.iterdir())
    end(tmp_path, how)
    (again,) = read_deaths(tmp_path)
    assert again.mark != death.mark


@pytest.mark.parametrize("how", ["kill", "terminate", "exception", "late exit", "nothing"])
def test_any_other_end_leaves_none(tmp_path, how):
    end(tmp_path, how)
    assert read_deaths(tmp_path) == []


def test_a_damaged_mark_is_none(tmp_path):
    for name, text in (("rank0", ""), ("rank1", '{"key": "a"'), ("rank2", "[1]\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    assert read_deaths(tmp_path) == []
    assert read_deaths(tmp_path / "nowhere") == []
