"""`FHI_AL-report`, and the report that a run writes at its end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from browser import CHROMIUM, open_page
from cli_runs import SCRIPTS, environment, journal, summary

from fhi_al.folder.run_folder import RunFolder
from fhi_al.record.events import Advanced, Evaluated
from fhi_al.report.run_report import try_report
from fhi_al.settings import load_inputs

OF_THE_JOURNAL = {"learning_curve", "uncertainty", "temperature", "sets", "energies", "timeline"}
OF_PREDICTIONS = {"parity_validation", "species"}

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


def report(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    done = subprocess.run(
        [str(SCRIPTS / "FHI_AL-report"), *words],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(),
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def charts(folder: Path) -> dict[str, dict]:
    """What the page's script is to draw."""
    text = (folder / "results" / "report.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script id="page-data" type="application/json">(.*?)</script>', text)
    found: dict[str, dict] = json.loads(data)
    return found


def words(folder: Path) -> str:
    """The text of the page, without scripts and tags."""
    text = (folder / "results" / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"<[^>]*>", " ", text)


def cut(source: Path, target: Path, records: int, torn: bytes = b"") -> Path:
    """The folder of a run as it was after so many records, without what came later."""
    shutil.copytree(source, target)
    shutil.rmtree(target / "results")
    path = target / "restart" / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:records]) + torn)
    return target


def where(folder: Path, kind: type, number: int) -> int:
    """How many records there are when so many of a kind have been written."""
    return [i for i, event in enumerate(journal(folder)) if isinstance(event, kind)][number] + 1


def test_a_finished_run_has_its_report(finished):
    folder, done = finished
    assert f"Report: {folder / 'results' / 'report.html'}" in done.text
    drawn = charts(folder)
    assert set(drawn) >= OF_THE_JOURNAL | OF_PREDICTIONS | {"calibration"}
    figures = {path.name for path in (folder / "results" / "figures").iterdir()}
    assert figures == {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}


def test_the_report_says_what_the_journal_and_the_summary_say(finished):
    folder, _ = finished
    text, numbers, drawn = words(folder), summary(folder), charts(folder)
    calls = sum(cost["reference_calls"] for cost in numbers["costs"])
    assert f"{calls} reference calculations" in text
    # One model is delivered, the best.
    n_valid = numbers["n_valid"]
    best = min(e["force_mae"] for e in numbers["errors"] if e["who"].startswith("member"))
    assert f"On {n_valid} validation structures, the delivered model" in text
    assert f"{1000 * best:.3g} meV/Å for forces" in text
    chosen = [
        c for event in journal(folder) if isinstance(event, Advanced) for c in event.candidates
    ]
    marks = [t for t in drawn["uncertainty"]["data"] if t["mode"] == "markers"]
    assert sum(len(trace["x"]) for trace in marks) == len(chosen)
    energies, forces = (t for t in drawn["parity_validation"]["data"] if t.get("mode") == "markers")
    assert (len(energies["x"]), len(forces["x"])) == (n_valid, 9 * n_valid)
    for key in ("Batatia2022", "Bannwarth2019", "Leimkuhler2013"):
        assert f"{{{key}," in text
    assert "Kabylda2025" not in text
    # What is worth a look: the target is far too ambitious for a run of seconds.
    assert "is above desired_acc (1 meV/Å)" in text
    assert "200 K" in text
    assert "ACTIVE_LEARNING.max_set_size" in text


def test_the_page_needs_nothing_from_elsewhere(finished):
    text = (finished[0] / "results" / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert "default-src 'none'" in page


@needs_browser
def test_the_browser_hears_complaints(tmp_path):
    (tmp_path / "bad.html").write_text("<figure id='figure-a'><script>nothing()</script></figure>")
    drawn = open_page(tmp_path / "bad.html", tmp_path / "profile")
    assert any("nothing is not defined" in line for line in drawn.console)
    assert drawn.traces == {"a": 0}


@needs_browser
def test_a_browser_draws_every_chart_without_complaint(finished, tmp_path):
    folder, _ = finished
    drawn = open_page(folder / "results" / "report.html", tmp_path)
    assert drawn.console == []
    expected = charts(folder)
    assert list(drawn.traces) == list(expected)
    for name, chart in expected.items():
        panels = sum(key.startswith("xaxis") for key in chart["layout"])
        assert drawn.axes[name] == panels, name
        assert drawn.traces[name] == len(chart["data"]), name


def test_the_command_writes_the_same_report(finished, tmp_path):
    folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "run")
    (copy / "results" / "report.html").unlink()
    done = report(str(copy))
    assert str(copy / "results" / "report.html") in done.stdout
    assert "loads torch" not in done.stdout  # the predictions were kept
    assert done.stderr == ""
    assert charts(copy) == charts(folder)


def test_a_run_at_work_has_a_report_without_its_models(finished, tmp_path):
    folder, _ = finished
    # In the middle of molecular dynamics; weights of that time have been replaced since.
    copy = cut(folder, tmp_path / "run", where(folder, Advanced, 4), torn=b"99 120 0000")
    done = report(str(copy))
    assert "The report goes without parity plots" in done.stderr
    assert set(charts(copy)) == OF_THE_JOURNAL | {"calibration"}
    text = words(copy)
    assert "is not finished: it stands in the stage “active learning”" in text
    # It took nothing away, and left the torn record to the run.
    assert (copy / "restart" / "journal.jsonl").read_bytes().endswith(b"99 120 0000")


def test_predictions_that_were_not_kept_are_made(finished, tmp_path):
    folder, _ = finished
    # Just before the final models are measured: their weights are there.
    copy = cut(folder, tmp_path / "run", where(folder, Evaluated, -1) - 1)
    assert "loads torch" in report(str(copy)).stdout
    ours, theirs = charts(copy), charts(folder)
    assert ours["parity_validation"]["data"] == theirs["parity_validation"]["data"]


def test_a_run_that_has_hardly_begun_has_a_report(finished, tmp_path):
    folder, _ = finished
    copy = cut(folder, tmp_path / "run", 1)
    assert report(str(copy)).stderr == ""
    assert "0 reference calculations" in words(copy)
    assert set(charts(copy)) == {"timeline"}


def test_models_can_be_left_alone(finished, tmp_path):
    folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "run")
    (copy / "results" / "predictions.h5").unlink()
    done = report(str(copy), "--no-predictions")
    assert "loads torch" not in done.stdout
    assert set(charts(copy)) == OF_THE_JOURNAL | {"calibration"}


def test_where_there_is_no_run(tmp_path):
    done = report(str(tmp_path), code=2)
    assert "there is no journal; name the folder with the input files" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_fails_does_not_harm_the_run(finished, tmp_path, caplog):
    copy = shutil.copytree(finished[0], tmp_path / "run")
    (copy / "results" / "predictions.h5").write_bytes(b"damaged")
    folder = RunFolder(load_inputs(copy), "")
    try_report(folder, [], "train-0")
    assert "The report could not be written (JournalError: " in caplog.text
    assert f"FHI_AL-report {copy}" in caplog.text
