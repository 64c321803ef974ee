from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Done, succeed, write_inputs

DETERMINISTIC = {"MISC": {"deterministic": True}}


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, Done]:
    """A whole deterministic run on one rank. Not to be changed: work on a copy."""
    folder = write_inputs(tmp_path_factory.mktemp("finished") / "run", al=DETERMINISTIC)
    return folder, succeed("FHI_AL", folder)
