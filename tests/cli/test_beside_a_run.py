"""Each command while a run works in the same folder: it answers, and does not disturb the run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runs import Running, ask, journal, write_inputs

# Soon in its convergence, which goes on for as long as it is wanted.
SMALL = {
    "n_samples": 2,
    "initial_intermediate_epochs": 2,
    "max_initial_epochs": 2,
    "max_set_size": 5,
    "max_MD_steps": 20,
    "uncertainty_warmup": 2,
    "max_epochs_worker": 1,
    "max_final_epochs": 10**6,
}


def stage(folder: Path) -> str:
    name: str = json.loads(ask(folder, "FHI_AL-status", "--json").stdout)["stage"]
    return name


@pytest.mark.slow
def test_commands_beside_a_run(start: Callable[..., Running], tmp_path: Path) -> None:
    folder = write_inputs(
        tmp_path / "run", al={"ACTIVE_LEARNING": SMALL}, mace={"TRAINING": {"patience": 10**6}}
    )
    run = start("FHI_AL", folder)
    deadline = time.monotonic() + 150
    while not (journal(folder) and stage(folder) == "convergence"):
        assert run.alive(), run.output.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)

    def answer(command: str, *words: str, code: int = 0) -> str:
        done = ask(folder, command, *words)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert run.alive(), run.output.read_text()
        return done.stdout + done.stderr

    assert json.loads(answer("FHI_AL-status", "--json"))["condition"] == "running"
    assert "Trained" in answer("FHI_AL-journal", "show", "--tail", "20")
    assert "labels are whole" in answer("FHI_AL-journal", "check")
    answer("FHI_AL-report", "--no-predictions")
    page = (folder / "results" / "report.html").read_text(encoding="utf-8")
    assert "is not finished" in page
    assert "not finished" in answer("FHI_AL-export", "--format", "model", "--format", "extxyz")
    models = [str(path) for path in sorted((folder / "export").glob("*.model"))]
    (data,) = (folder / "export").glob("*train*.xyz")
    assert "force" in answer("FHI_AL-test-ensemble", *models, "--data", str(data)).lower()
    assert "reference calls" in answer("FHI_AL-plan", "--quick")
    # These would get in its way.
    assert "geometry.in" in answer("FHI_AL-init", "molecule", code=2)
    (pid,) = run.pids()
    for words in (
        ("FHI_AL",),
        ("FHI_AL-initial-ds",),
        ("FHI_AL-al",),
        ("FHI_AL-atomic-energies",),
        ("FHI_AL-recalculate", str(data)),
    ):
        refusal = answer(*words, code=2)
        assert "works in this folder" in refusal
        assert f"process {pid}" in refusal
