"""Effects and events between real MPI processes."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

PROGRAM = Path(__file__).with_name("channels_program.py")


def mpirun(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if os.getuid() == 0:
        environment |= {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
    launcher = str(Path(sysconfig.get_path("scripts")) / "mpirun")
    command = [launcher, "--oversubscribe", "-n", str(ranks), sys.executable, str(PROGRAM)]
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def test_effects_reach_all_groups_and_each_answer_comes_once() -> None:
    result = mpirun(3, "work")
    assert result.returncode == 0, result.stderr
    assert "workers: [1.0, 2.0]" in result.stdout
    assert result.stdout.count("closed") == 2


def test_idle_ranks_sleep() -> None:
    """The issue allows 5% of a core for three idle ranks; deadlines are tested at three times."""
    result = mpirun(4, "idle")
    assert result.returncode == 0, result.stderr
    share = float(result.stdout.split("idle share:")[1])
    print(f"three idle ranks used {100 * share:.1f}% of a core")
    assert share < 0.15


def test_a_failure_arrives_with_rank_and_traceback() -> None:
    result = mpirun(2, "fail")
    assert "1 RuntimeError: as asked True" in result.stdout
    assert result.returncode != 0


def test_a_broken_rank_ends_the_job_when_nobody_answers() -> None:
    start = time.monotonic()
    result = mpirun(2, "orphan")
    assert result.returncode != 0
    assert time.monotonic() - start < 30
