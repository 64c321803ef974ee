"""The thread beside the controller, for what can't wait until a library returns.

On one rank, the controller is inside the reference library for as long as one calculation takes,
which may be hours; Python runs no signal handler meanwhile. The signs of life of the run, and
the promise to end soon after a signal, must not depend on that. The thread touches neither the
state nor MPI; it sleeps, and costs nothing.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
import time
from collections.abc import Callable

BEAT_S = 20.0
END_S = 15.0


class Watch:
    """Shows signs of life, and ends the process where it doesn't end itself in time.

    Args:
        beat: is called every 20 s.
        give_up: ends the process; is called with the reason.
        end: time (seconds since 1970) at which the process must have ended, or None.
        after_signal: whether it must also have ended 15 s after a signal.
    """

    def __init__(
        self,
        beat: Callable[[], None],
        give_up: Callable[[str], None],
        *,
        end: float | None = None,
        after_signal: bool = True,
    ) -> None:
        self._beat, self._give_up = beat, give_up
        self._end, self._reason = end, "the walltime is over"
        self._after_signal = after_signal
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin; from the main thread."""
        # Written to by the system's handler, at once, whatever the main thread is doing.
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        signal.set_wakeup_fd(-1)
        self._writer.close()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        next_beat = time.monotonic() + BEAT_S
        while True:
            left = float("inf") if self._end is None else self._end - time.time()
            if left <= 0:
                self._give_up(self._reason)
            pause = min(left, next_beat - time.monotonic())
            if select.select([self._reader], [], [], max(pause, 0.0))[0]:
                received = b""
                with contextlib.suppress(BlockingIOError):
                    received = self._reader.recv(64)
                if not received:
                    return
                self._note(received[0])
            if time.monotonic() >= next_beat:
                self._beat()
                next_beat += BEAT_S

    def _note(self, number: int) -> None:
        end = time.time() + END_S
        if self._after_signal and (self._end is None or end < self._end):
            self._end, self._reason = end, signal.Signals(number).name
