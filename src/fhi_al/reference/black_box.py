"""What a reference library leaves behind when it takes its process down with it.

A structure that kills the library must not kill every restart, and a kill of the job must not
reject a good structure. So deaths count only where they have left a mark in the process that died:

- a signal of its own making (segmentation fault, abort, floating-point error): Python's fault
  handler writes it down;
- `MPI_Abort`: MPI says so on standard error, which is kept in a file meanwhile;
- `exit`: the C library then removes the file that says that the process lives.

SIGKILL leaves no mark, whoever sends it: the user, the batch system, or the kernel for want of
memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from fhi_al.record.events import Died

log = logging.getLogger(__name__)

_LAST_WORDS = 1000


class BlackBox:
    """Writes down what the library of this rank is working on, and what it says at its end.

    Nothing is written before the first structure, so that the marks of the command before can be
    read until then.

    Args:
        folder: of the marks.
        name: of this rank's two files there.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder.absolute() / f"{name}.txt"
        self._alive = folder.absolute() / f"{name}.alive"
        self._started = False

    @contextmanager
    def recording(self, key: str) -> Iterator[None]:
        """Watch over one calculation; where the disk is full, go on without.

        Args:
            key: of its structure.
        """
        try:
            file = self._open(key)
        except OSError as error:
            log.warning("%s: a crash of the reference would go unnoticed (%s)", self._path, error)
            yield
            return
        with file:
            begins = file.tell()
            sys.stderr.flush()
            terminal = os.dup(2)
            was_enabled = faulthandler.is_enabled()
            os.dup2(file.fileno(), 2)
            faulthandler.enable(file)
            try:
                with _python_to(terminal):
                    yield
            finally:
                sys.stderr.flush()
                ctypes.CDLL(None).fflush(None)
                os.dup2(terminal, 2)
                os.close(terminal)
                faulthandler.disable()
                if was_enabled:
                    faulthandler.enable()
                file.seek(begins)
                said = file.read()
                file.truncate(0)
        if said:
            os.write(2, said.encode())

    def _open(self, key: str) -> TextIO:
        self._start()
        about = {"key": key, "host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
        file = self._path.open("w+", encoding="utf-8", errors="replace")
        try:
            file.write(json.dumps(about) + "\n")
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                file.close()
            raise
        return file

    def _start(self) -> None:
        if self._started:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._alive.touch()
        library = ctypes.CDLL(None)
        register = getattr(library, "__cxa_atexit", None)
        if register is not None:
            # Not by Python, which is gone when a process ends in the usual way. The copy of the
            # path is never freed.
            library.strdup.restype = ctypes.c_void_p
            path = ctypes.c_void_p(library.strdup(os.fsencode(self._alive)))
            register(ctypes.cast(library.unlink, ctypes.c_void_p), path, None)
        self._started = True


@contextmanager
def _python_to(terminal: int) -> Iterator[None]:
    """Let Python's own messages through, those of another thread that ends the run among them."""
    before = sys.stderr
    try:
        ours = before.fileno() == 2
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        yield
        return
    with open(terminal, "w", encoding="utf-8", errors="replace", closefd=False) as stream:
        sys.stderr = stream
        try:
            yield
        finally:
            sys.stderr = before


def read_deaths(folder: Path) -> list[Died]:
    """Find out which structures the last command's libraries died of.

    Args:
        folder: of the marks.

    Returns:
        One event a structure, whichever ranks of its group have left marks.
    """
    deaths: dict[str, Died] = {}
    for path in sorted(folder.glob("*.txt")):
        first, _, words = path.read_text(encoding="utf-8", errors="replace").partition("\n")
        try:
            about = json.loads(first)
            key, mark = about["key"], f"{about['host']}:{about['pid']}:{about['time']}"
        except (ValueError, KeyError, TypeError):
            continue  # nothing was in work
        how, words = _cause(words, path.with_suffix(".alive").exists())
        if how and key not in deaths:
            deaths[key] = Died(key, how, words.strip()[-_LAST_WORDS:], mark)
    return list(deaths.values())


def forget_deaths(folder: Path) -> None:
    """Remove the marks, once the journal has them."""
    for path in (*folder.glob("*.txt"), *folder.glob("*.alive")):
        path.unlink(missing_ok=True)


def _cause(said: str, alive: bool) -> tuple[str, str]:
    """Say by what mark a process died of its own library (empty: none), and what it said before."""
    before = ""
    for line in said.splitlines(keepends=True):
        if line.startswith("Fatal Python error: "):
            return line.removeprefix("Fatal Python error: ").strip(), before
        if "mpi_abort" in line.lower():
            return "MPI_Abort", before
        if "] func:" not in line:  # the stack that Open MPI shows
            before += line
    return "" if alive else "exit", before
