"""Starts commands on a terminal, as a user does, and reads what appears there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Sequence

from cli_runs import environment

LINES, COLUMNS = 40, 100

# What a terminal is told beside the text: colours, moves of the cursor, modes.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command on a terminal of its own, which has the keyboard.

    Args:
        words: of the command.
        variables: of the environment.

    Attributes:
        text: everything that it has written so far.
    """

    def __init__(self, words: Sequence[str], **variables: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        plain = dict.fromkeys(("NO_COLOR", "FORCE_COLOR"), "")
        self._process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(**{"TERM": "xterm-256color", **plain, **variables}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def words(self) -> str:
        """The text without colours and moves of the cursor."""
        return _CONTROL.sub("", self.text)

    def _read(self) -> None:
        # The other end is closed with the command: an error, on Linux.
        try:
            while found := os.read(self._master, 65536):
                self.text += found.decode(errors="replace")
        except OSError:
            return

    def alive(self) -> bool:
        return self._process.poll() is None

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait_for(self, words: str, timeout: float = 150) -> None:
        """Wait until some words have appeared."""
        deadline = time.monotonic() + timeout
        while words not in self.words:
            assert self.alive(), self.words
            assert time.monotonic() < deadline, self.words
            time.sleep(0.05)

    def wait(self, timeout: float = 150) -> int:
        """Wait for the end: the exit code."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        os.close(self._master)
        return code
