"""Signals and the end of the walltime: what is promised within 20 s is tested at 60."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runs import Done, Running, call, journal, labelled
from fault_runs import TROUBLE, calls, logged_run, n_records, wait_until

from fhi_al.record.events import Closed, Started

Start = Callable[..., Running]
# Some minutes of work.
LONG = {"max_set_size": 500, "max_MD_steps": 2000, "max_epochs_worker": 1}


def check_stop(folder: Path, done: Done, reason: str) -> None:
    """The command ended in good order, and said how to go on."""
    assert done.code == 75, done.text
    assert "Stopped: " in done.text
    assert f"FHI_AL --directory {folder}" in done.text
    assert "Traceback" not in done.text
    events = journal(folder)
    assert isinstance(events[-1], Closed)
    assert reason in events[-1].reason
    assert not (folder / "restart" / "lock").exists()


@pytest.mark.parametrize(
    ("ranks", "number", "target"),
    [
        (None, signal.SIGINT, 0),
        (3, signal.SIGUSR1, "mpirun"),
        (3, signal.SIGTERM, 2),
    ],
)
def test_a_signal_stops_the_run_and_the_next_command_goes_on(
    start: Start, tmp_path: Path, ranks: int | None, number: signal.Signals, target: int | str
) -> None:
    folder = logged_run(tmp_path / "run", ACTIVE_LEARNING=LONG)
    running = start("FHI_AL", folder, ranks)
    wait_until(running, lambda: n_records(folder) > 15)
    began = time.monotonic()
    running.send(number, None if target == "mpirun" else int(target))
    done = running.wait(60)
    check_stop(folder, done, number.name)
    print(f"stopped after {time.monotonic() - began:.1f} s")
    # What was in work ended: nothing is computed again.
    keys = labelled(folder)
    assert sorted(calls(folder).values()) == [1] * len(keys)

    before = n_records(folder)
    running = start("FHI_AL", folder, ranks)
    wait_until(running, lambda: n_records(folder) > before + 4)
    running.send(signal.SIGTERM, 0)
    check_stop(folder, running.wait(60), "SIGTERM")
    assert labelled(folder)[: len(keys)] == keys
    assert max(calls(folder).values()) == 1


def stuck_run(start: Start, folder: Path, ranks: int | None, **misc: bool) -> Running:
    """A run whose reference is in compiled code, at its third call."""
    (folder := logged_run(folder, MISC=misc, ACTIVE_LEARNING=LONG) / TROUBLE).write_text("stuck")
    os.mkfifo(folder.with_suffix(".gate"))
    running = start("FHI_AL", folder.parent, ranks)
    wait_until(running, lambda: calls(folder.parent).total() == 3)
    time.sleep(0.5)
    return running


@pytest.mark.parametrize("ranks", [None, 3])
def test_a_reference_that_does_not_return_is_given_up(
    start: Start, tmp_path: Path, ranks: int | None
) -> None:
    folder = tmp_path / "run"
    running = stuck_run(start, folder, ranks)
    running.send(signal.SIGUSR2, 0)
    check_stop(folder, running.wait(60), "SIGUSR2")
    # It is not to blame: a death without reason would have no `Closed` behind it.
    events = journal(folder)
    (closed, *_) = (i for i, event in enumerate(events) if isinstance(event, Closed))
    assert not any(isinstance(event, Started) for event in events[closed:])


def test_finish_reference_waits_for_the_reference(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    running = stuck_run(start, folder, 3, finish_reference=True)
    running.send(signal.SIGTERM, 0)
    time.sleep(17)
    assert running.alive()
    before = len(labelled(folder))
    (folder / TROUBLE).with_suffix(".gate").write_text("1")
    check_stop(folder, running.wait(60), "SIGTERM")
    assert len(labelled(folder)) == before + 1
    assert calls(folder).total() == 3


def test_a_second_interrupt_ends_at_once(start: Start, tmp_path: Path) -> None:
    running = stuck_run(start, tmp_path / "run", None, finish_reference=True)
    # The first one is seen by Python only when the reference returns.
    running.send(signal.SIGINT, 0)
    (tmp_path / "run" / TROUBLE).with_suffix(".gate").write_text("1")
    wait_until(running, lambda: "Stopp" in running.output.read_text())
    running.send(signal.SIGINT, 0)
    running.wait(5)


def test_the_walltime_is_kept(tmp_path: Path) -> None:
    folder = logged_run(tmp_path / "run", ACTIVE_LEARNING=LONG)
    done = call("FHI_AL", folder, options=("--walltime", "0:20"), timeout=120)
    check_stop(folder, done, "walltime")
    # Three times that, for machines that do other work as well.
    assert done.seconds < 60
    assert "will stop by itself before" in done.text


def test_the_end_of_the_slurm_job_is_known(tmp_path: Path) -> None:
    """Nothing is begun that would not end in time."""
    folder = logged_run(tmp_path / "run", ACTIVE_LEARNING=LONG)
    end = {"SLURM_JOB_END_TIME": str(int(time.time() + 15))}
    done = call("FHI_AL", folder, timeout=60, **end)
    check_stop(folder, done, "walltime")
    assert "the end of the Slurm job" in done.text
