"""The terminal that a user looks at, if there is one."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO

from fhi_al.mpi.world import launched

_POOR = ("", "dumb", "unknown")


def terminal_size(file: TextIO) -> os.terminal_size | None:
    """The size of the terminal on which lines can be drawn anew; None where that is not possible.

    Control characters don't belong in files and pipes, whatever variables ask for colours there,
    nor in a terminal in which this process works in the background. Open MPI gives its ranks a
    terminal of their own, whose other end may be a file: there, that of `mpirun` counts.

    Args:
        file: standard output.
    """
    if os.environ.get("TERM", "") in _POOR or not file.isatty():
        return None
    with contextlib.suppress(OSError):
        if not launched():
            number = file.fileno()
            return None if _in_background(number) else os.get_terminal_size(number)
        launcher = os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY | os.O_NOCTTY)
        try:
            return os.get_terminal_size(launcher)
        finally:
            os.close(launcher)
    return None


def _in_background(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        return False  # no shell controls jobs there
