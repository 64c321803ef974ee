from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The commands are started, and their folders read, as in the tests of the commands.
sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from cli_runs import Running


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts commands, with the arguments of `Running`; leaves none behind."""
    started: list[Running] = []

    def start(*arguments: Any, **variables: str) -> Running:
        started.append(Running(*arguments, **variables))
        return started[-1]

    yield start
    for running in started:
        running.kill()
