"""Commands that look at what a run has left, as installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runs import Done, ask, summary


def test_the_delivered_models_have_the_errors_of_the_summary(
    finished: tuple[Path, Done], tmp_path: Path
) -> None:
    folder, _ = finished
    models = sorted(str(path) for path in (folder / "model").glob("*.model"))
    data = str(folder / "data" / "valid.xyz")
    done = ask(
        tmp_path, "FHI_AL-test-ensemble", *models, "--data", data, "--out", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "errors.json").read_text())["scores"]
    (whole,) = [score for score in told if not score["species"] and not score["system"]]
    member = whole["who"].rpartition("_")[2]
    (known,) = [e for e in summary(folder)["errors"] if e["who"] == f"member {member}"]
    assert whole["n_structures"] == known["n_structures"]
    for quantity, name in (("energy", "energy"), ("forces", "force")):
        for measure in ("mae", "rmse"):
            expected = known[f"{name}_{measure}"]
            assert whole[quantity][measure] == pytest.approx(expected, rel=1e-5)


def test_the_journal_is_whole(finished: tuple[Path, Done]) -> None:
    folder, _ = finished
    done = ask(folder, "FHI_AL-journal", "check")
    assert done.returncode == 0, done.stdout
    assert "The run, in the stage done, can go on." in done.stdout
