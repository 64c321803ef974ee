from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import DETERMINISTIC, Done, Running, succeed, write_inputs


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, Done]:
    """A whole deterministic run on one rank. Not to be changed: work on a copy."""
    misc = {**DETERMINISTIC["MISC"], "report": True}
    folder = write_inputs(tmp_path_factory.mktemp("finished") / "run", al={"MISC": misc})
    return folder, succeed("FHI_AL", folder)


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts commands, with the arguments of `Running`; leaves none behind."""
    started: list[Running] = []

    def start(*arguments: Any) -> Running:
        started.append(Running(*arguments))
        return started[-1]

    yield start
    for running in started:
        running.kill()
