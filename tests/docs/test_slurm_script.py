"""The job script of the how-to does what the page says: it queues itself again on 75 only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pages import DOCS, code_blocks


def run_script(tmp_path: Path, code: int) -> tuple[int, str]:
    """Run the script where `srun` ends with an exit code.

    Returns:
        The exit code of the script, and what `scontrol` was asked for.
    """
    ((_, script),) = code_blocks(DOCS / "howto" / "slurm.md", "bash")
    asked = tmp_path / "asked"
    programs = {
        "srun": f'[ "$*" = "--mpi=pmix FHI_AL" ] && exit {code}',
        "scontrol": f'echo "$*" >> {asked}',
        "module": "exit 0",
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", script],
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "SLURM_JOB_ID": "17",
        },
        timeout=30,
        capture_output=True,
    )
    return done.returncode, asked.read_text() if asked.exists() else ""


@pytest.mark.parametrize(("code", "asked"), [(0, ""), (1, ""), (2, ""), (75, "requeue 17\n")])
def test_only_an_unfinished_run_is_queued_again(tmp_path: Path, code: int, asked: str) -> None:
    assert run_script(tmp_path, code) == (code, asked)
