"""A procedure that the program doesn't know runs as a command, by a row in two tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_procedure
from cli_runs import Running, environment, labelled
from fault_runs import calls, logged_run
from kills import kill_runs

HERE = Path(__file__).parent
COUNT = 12
COMMANDS = {
    "shake": "from fhi_al.run.task import Task; run = lambda _: launch(Task('shake'), DIRECTORY)",
    "status": "from fhi_al.cli.status import main as run",
    "report": "from fhi_al.cli.report import main as run",
    "journal": "from fhi_al.cli.journal import main as run",
}
SCRIPT = """\
#!{python}
import sys
from pathlib import Path
import toy_procedure
toy_procedure.register()
from fhi_al.run.launch import launch
DIRECTORY = Path(sys.argv[-1])
{how}
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The toy's own command, and three others in which it is known; word -> path."""
    toy_procedure.register(monkeypatch.setitem)  # this process reads its journals
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    found = {}
    for name, how in COMMANDS.items():
        path = tmp_path / name
        path.write_text(SCRIPT.format(python=sys.executable, how=how))
        path.chmod(0o755)
        found[name] = str(path)
    return found


def run(*words: str) -> str:
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(folder: Path) -> Path:
    """Inputs whose reference writes down every call."""
    return logged_run(folder, ACTIVE_LEARNING={"max_set_size": COUNT})


def complete(folder: Path) -> None:
    assert len(labelled(folder)) == len(set(labelled(folder))) == COUNT


def test_it_runs_and_is_told_of(commands: dict[str, str], tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    text = run(commands["shake"], "--directory", str(folder))
    complete(folder)
    assert calls(folder).total() == COUNT
    assert "Shaking the geometry" in text
    assert "Shaking the geometry" in next(folder.rglob("shaking.log")).read_text()
    status = json.loads(run(commands["status"], "--json", str(folder)))
    assert status["condition"] == "finished"
    assert status["goal"] == "shake"
    assert status["reference_calls"] == COUNT
    assert {"labels", "shaking"} <= {kind for role in status["roles"] for kind in role["kinds"]}
    assert "Shaken" in run(commands["journal"], "show", str(folder))
    run(commands["report"], str(folder))
    assert "has reached its goal" in next(folder.rglob("report.html")).read_text()


@pytest.mark.parametrize("ranks", [None, 3])
def test_it_survives_kills(
    commands: dict[str, str], start: Callable[..., Running], tmp_path: Path, ranks: int | None
) -> None:
    totals = kill_runs(
        start,
        seed=3,
        ranks=ranks,
        kills=3,
        make=lambda number: make(tmp_path / f"run{number}"),
        check=complete,
        command=commands["shake"],
    )
    assert totals.lost == 0
    assert totals.kills.total() == 3
