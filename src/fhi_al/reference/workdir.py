"""Where the programs behind the engines may write and print."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path


@contextmanager
def inside(directory: Path, output: str) -> Iterator[None]:
    """Work in a folder, with all standard output in a file there.

    That of compiled code included, which goes past Python to the process's file descriptor.

    Args:
        directory: absolute.
        output: name of the file; it is appended to.
    """
    came_from = os.getcwd()
    sys.stdout.flush()
    terminal = os.dup(1)
    with (directory / output).open("a", encoding="utf-8") as file, redirect_stdout(file):
        os.dup2(file.fileno(), 1)
        os.chdir(directory)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)
            os.chdir(came_from)
            os.dup2(terminal, 1)
            os.close(terminal)
