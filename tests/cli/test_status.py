"""How a run is coming along: asked from another shell, and shown by the run itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_runs import AL, SCRIPTS, command_line, environment, journal, write_inputs
from cli_terminal import COLUMNS, LINES, Terminal

from fhi_al.record.events import Labelled, Opened

# Soon in its convergence, which takes as long as it is looked at.
SMALL = {
    "n_samples": 2,
    "initial_intermediate_epochs": 2,
    "max_initial_epochs": 2,
    "max_set_size": 5,
    "max_MD_steps": 20,
    "uncertainty_warmup": 2,
    "max_epochs_worker": 1,
}
CTRL_C = b"\x03"
CURSOR_UP, HIDE_CURSOR, SHOW_CURSOR = "\x1b[1A", "\x1b[?25l", "\x1b[?25h"


def words(folder: Path, *options: str) -> list[str]:
    return [str(SCRIPTS / "FHI_AL-status"), str(folder), *options]


def ask(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(folder, *options),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**variables),
    )


def numbers(folder: Path) -> dict[str, Any]:
    done = ask(folder, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- a finished run ----------------------------------------------------------------------------


def test_a_finished_run_in_numbers(finished):
    folder, _ = finished
    status = numbers(folder)
    assert (status["name"], status["condition"], status["stage"]) == ("water", "finished", "done")
    assert status["goal"] == "run"
    assert status["host"] is None
    labels = [event for event in journal(folder) if isinstance(event, Labelled)]
    summary = json.loads((folder / "results" / "summary.json").read_text())
    assert status["reference_calls"] == sum(event.seconds > 0 for event in labels)
    assert status["train_size"] == summary["train_size"]
    assert status["n_valid"] == summary["n_valid"]
    assert status["seconds"] == pytest.approx(
        sum(cost["wall_seconds"] for cost in summary["costs"]), abs=1.0
    )
    assert status["accuracy"]["target"] == AL["ACTIVE_LEARNING"]["desired_acc"]
    assert 0 < status["accuracy"]["force_mae"] < 1
    assert status["in_work"] == []
    assert status["seconds_left"] is None
    assert [one["state"] for one in status["trajectories"]] == ["finished"] * 2
    roles = {role["role"]: role for role in status["roles"]}
    for use in summary["roles"]:
        busy = sum(use["busy"].values()) / use["rank_seconds"]
        assert roles[use["role"]]["busy"] == pytest.approx(busy, abs=0.02)


def test_a_finished_run_in_words(finished):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    # Colours are for terminals.
    done = ask(folder, TERM="xterm-256color")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("water, finished")
    for phrase in ("force MAE", "(wanted: 1.0 meV/Å", "to train on", "trajectory", "busy"):
        assert phrase in done.stdout, phrase
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    watched = ask(folder, "--watch")
    assert watched.returncode == 0
    assert watched.stdout.startswith("done, finished")
    assert watched.stdout.count("\n") == 1
    assert json.loads(ask(folder, "--watch", "--json").stdout)["condition"] == "finished"


def test_a_finished_run_on_a_terminal(finished):
    folder, _ = finished
    for no_color in ("", "1"):
        terminal = Terminal(words(folder, "--watch"), NO_COLOR=no_color)
        assert terminal.wait() == 0
        assert "water, finished" in terminal.words
        assert ("\x1b[32m" in terminal.text) is not bool(no_color)
        assert terminal.text.endswith(("\n", SHOW_CURSOR))


def test_a_reader_that_has_seen_enough_is_no_error(finished):
    folder, _ = finished
    done = subprocess.run(
        ["bash", "-c", f"'{SCRIPTS}/FHI_AL-status' '{folder}' --json | head -c 1"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert (done.stdout, done.stderr) == ("{", "")


def test_no_run_is_said_to_be_none(tmp_path):
    for options in ((), ("--json",), ("--watch",)):
        done = ask(tmp_path, *options)
        assert done.returncode == 2
        assert done.stdout == ""
        assert f"{tmp_path}/restart/journal.jsonl: there is no journal" in done.stderr


def test_damage_is_said_to_be_damage(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0] / "restart", folder / "restart")
    path = folder / "restart" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    # The tail of a journal may be torn; its middle may not.
    path.write_bytes(b"".join(lines[:20]) + lines[20][:30])
    assert numbers(folder)["condition"] == "crashed"
    path.write_bytes(b"".join([*lines[:20], lines[20][:30] + b"\n", *lines[21:]]))
    done = ask(folder)
    assert done.returncode == 1
    assert "record 20 is damaged" in done.stderr


# --- which terminal ----------------------------------------------------------------------------

SIZE = """
import sys
from fhi_al.monitor.terminal import terminal_size
print(sys.stdout.isatty(), terminal_size(sys.stdout))
"""


def test_under_mpirun_the_terminal_of_mpirun_counts(tmp_path):
    """It gives each rank a terminal of its own, whatever its own output is."""
    launcher = command_line("FHI_AL", tmp_path, 1)[:4]
    script = [*launcher, sys.executable, "-c", SIZE]
    terminal = Terminal(script)
    assert terminal.wait() == 0
    assert f"True os.terminal_size(columns={COLUMNS}, lines={LINES})" in terminal.text
    env = environment(TERM="xterm-256color", FORCE_COLOR="1")
    piped = subprocess.run(script, check=True, capture_output=True, text=True, timeout=60, env=env)
    assert piped.stdout.endswith(" None\n")


def test_a_process_in_the_background_does_not_draw():
    job = f"set -m; '{sys.executable}' -c \"$SCRIPT\" & wait"
    terminal = Terminal(["bash", "-c", job], SCRIPT=SIZE)
    assert terminal.wait() == 0
    assert "True None" in terminal.text
    terminal = Terminal([sys.executable, "-c", SIZE])
    assert terminal.wait() == 0
    assert f"True os.terminal_size(columns={COLUMNS}, lines={LINES})" in terminal.text


# --- a run at work -----------------------------------------------------------------------------


def test_a_run_on_a_terminal_asked_from_another_one(tmp_path):
    folder = write_inputs(
        tmp_path / "run",
        al={"ACTIVE_LEARNING": {**SMALL, "max_final_epochs": 10**6}},
        mace={"TRAINING": {"patience": 10**6}},
    )
    run = Terminal(command_line("FHI_AL", folder, None))
    try:
        run.wait_for("Ranks:")
        while not any(isinstance(event, Opened) for event in journal(folder)):
            time.sleep(0.05)
        status = numbers(folder)
        assert status["condition"] == "running"
        assert status["pid"] == run.pid
        seen = [status]
        deadline = time.monotonic() + 150
        while seen[-1]["stage"] != "convergence" or not seen[-1]["seconds_left"]:
            assert run.alive(), run.words
            assert time.monotonic() < deadline, seen[-1]
            seen.append(numbers(folder))
        assert [s["seconds"] for s in seen] == sorted(s["seconds"] for s in seen)
        assert any(status["in_work"] for status in seen)
        (limit,) = seen[-1]["limits"]
        assert (limit["what"], limit["limit"]) == ("epochs", 10**6)

        done = ask(folder)
        assert f"water: convergence, running on {status['host']} (process {run.pid})" in done.stdout
        assert "training for " in done.stdout
        watch = Terminal(words(folder, "--watch"))
        watch.wait_for("water: convergence")
        drawn = len(watch.text)
        while len(watch.text) == drawn:
            assert watch.alive()
            time.sleep(0.1)
        watch.press(CTRL_C)
        assert watch.wait() == 0
        assert "Traceback" not in watch.text

        # The run shows the same below its log, which goes on above.
        run.wait_for("water: convergence, running")
        run.press(CTRL_C)
        assert run.wait() == 75
    finally:
        run.kill()
    assert run.text.rindex(SHOW_CURSOR) > run.text.rindex(HIDE_CURSOR)
    assert run.text.count(CURSOR_UP) > 5
    # The drawing is gone; the last words stand alone.
    last = run.text.rpartition(CURSOR_UP)[2]
    assert "Stopped: SIGINT" in last
    assert "trajectory" not in last
    # The log file is plain text, and without the drawings.
    for name in ("AL.log", "initial_dataset.log"):
        log = (folder / name).read_text()
        assert "\x1b" not in log
        assert "busy" not in log

    status = numbers(folder)
    assert (status["condition"], status["why"]) == ("stopped", "SIGINT")
    assert status["in_work"] == []
    assert "SIGINT" in ask(folder).stdout
