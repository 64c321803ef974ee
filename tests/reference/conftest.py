from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import reference_cases

from fhi_al.atoms.structure import Structure

HERE = Path(__file__).parent


@pytest.fixture
def water() -> Structure:
    return reference_cases.water()


@pytest.fixture
def ethanol() -> Structure:
    return reference_cases.ethanol()


@pytest.fixture
def silicon() -> Structure:
    return reference_cases.silicon()


def _run(*command: object) -> str:
    # What a started MPI has left in this process's environment isn't for the next one.
    foreign = ("OMPI_MCA_", "OMPI_COMM", "PMIX_", "PRTE_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
    tests = str(HERE.parent)
    environment = {
        **kept,
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), tests, os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(
        [str(word) for word in command],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


@pytest.fixture
def mpirun():
    """Runs a script of this folder on some ranks; returns what it prints."""

    def run(ranks: int, script: str, *arguments: object) -> str:
        mpirun = Path(sysconfig.get_path("scripts")) / "mpirun"
        launcher = str(mpirun) if mpirun.exists() else "mpirun"
        command = (launcher, "--oversubscribe", "-n", ranks, sys.executable, HERE / script)
        return _run(*command, *arguments)

    return run


@pytest.fixture
def run_python():
    """Runs a script of this folder in a process of its own; returns what it prints."""
    return lambda script, *arguments: _run(sys.executable, HERE / script, *arguments)
