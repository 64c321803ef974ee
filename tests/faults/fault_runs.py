"""Runs that are disturbed, and what they leave, seen from the outside."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cli_runs import Running, write_inputs

TROUBLE = "trouble"


def logged_run(folder: Path, *, mace: Mapping[str, Any] | None = None, **sections: Any) -> Path:
    """Inputs of a run whose reference writes down every call."""
    arguments = {"log": str(folder / "calls.txt"), "trouble": str(folder / TROUBLE)}
    reference = {
        "engine": "ase",
        "calculator": "cli_calculators.LoggedXtb",
        "arguments": arguments,
    }
    return write_inputs(folder, mace=mace, al={"REFERENCE": reference, **sections})


def calls(folder: Path) -> Counter[str]:
    path = folder / "calls.txt"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def wait_until(running: Running, true: Callable[[], bool]) -> None:
    while not true():
        assert running.alive(), running.output.read_text()
        time.sleep(0.01)


def n_records(folder: Path) -> int:
    path = folder / "restart" / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0
