"""The view that a run gives of itself while it works.

On a terminal the tables of `FHI_AL-status` stand below the log and are drawn anew every two
seconds. Elsewhere a line of the log says how things stand where it would be quiet for long. Both
are looked after by the controller's loop, between two pieces of work, and decide nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from dataclasses import replace
from types import TracebackType
from typing import TextIO

from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.segment import Segment, SegmentLines

from fhi_al.analysis.progress import Progress
from fhi_al.folder.lock import Holder
from fhi_al.monitor.drawing import draw, in_words
from fhi_al.monitor.observe import observe
from fhi_al.monitor.snapshot import Snapshot
from fhi_al.monitor.terminal import terminal_size
from fhi_al.procedures.state import State
from fhi_al.record.events import Event, Started

log = logging.getLogger(__name__)

PERIOD_S = 2.0
QUIET_S = 60.0
_LONGEST_QUIET_S = 1800.0
_LOG_LINES = 6


class Painter:
    """Draws snapshots on the terminal, each in place of the one before.

    The cursor stays visible and no mode of the terminal is changed: a process that is killed leaves
    nothing to be put right.

    Args:
        keep: whether the last drawing stays.
        log_lines: lines of the terminal that are left to what is printed meanwhile.
    """

    def __init__(self, *, keep: bool, log_lines: int = 0) -> None:
        self._console = Console(highlight=False, force_terminal=True)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=not keep, vertical_overflow="crop"
        )
        self._log_lines = log_lines

    def start(self) -> None:
        """Begin; what Python prints from now on appears above the drawing."""
        self._live.start()
        self._console.show_cursor(True)

    def stop(self) -> None:
        """End, and leave the terminal as a program that prints expects it."""
        with contextlib.suppress(OSError):
            self._live.stop()

    def paint(self, snapshot: Snapshot, size: os.terminal_size) -> None:
        """Draw a snapshot.

        Args:
            snapshot: to be drawn.
            size: of the terminal.
        """
        # Some have none, as those of batch systems.
        self._console.size = ConsoleDimensions(size.columns or 80, size.lines or 24)
        # Drawn once, not again for each line that is printed above.
        lines = self._lines(snapshot, None)
        room = max(self._console.height - 2 - self._log_lines, 1)
        if (excess := len(lines) - room) > 0:
            rows = max(len(snapshot.trajectories) - excess - 1, 0)
            lines = self._lines(snapshot, rows)[:room]
        # Open MPI keeps back a line that does not end: let that be an empty one.
        self._live.update(SegmentLines([*lines, []], new_lines=True), refresh=True)

    def _lines(self, snapshot: Snapshot, rows: int | None) -> list[list[Segment]]:
        return self._console.render_lines(draw(snapshot, bars=True, rows=rows), pad=False)

    def __enter__(self) -> Painter:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class RunView:
    """Shows a run from inside: told of all events, and looked after by the controller.

    Args:
        name: of the run.
        holder: this process.
        state: at the start of the command.
        progress: likewise.
        terminal: the handler that logs to standard output.
    """

    def __init__(
        self,
        name: str,
        holder: Holder,
        state: State,
        progress: Progress,
        terminal: logging.StreamHandler[TextIO],
    ) -> None:
        self._name, self._holder = name, holder
        self._state, self._progress = state, progress
        self._terminal = terminal
        self._painter: Painter | None = None
        self._next = self._quiet_until = 0.0
        self._quiet = QUIET_S

    def __call__(self, state: State, event: Event) -> None:
        """Take note of an event."""
        self._state = state
        self._progress.take(state, event, time.time())
        if not isinstance(event, Started):
            self._quiet = QUIET_S
            self._quiet_until = time.monotonic() + self._quiet

    def look(self) -> None:
        """Show how things stand, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PERIOD_S
        try:
            self._show(now)
        except Exception as error:
            # The terminal is gone, perhaps. No view is worth a run.
            self._stop()
            self._next = float("inf")
            log.warning("The run is no longer shown: %s: %s", type(error).__name__, error)

    def _show(self, now: float) -> None:
        size = terminal_size(sys.stdout)
        if size is None:
            self._stop()
            if now < self._quiet_until:
                return
        clock = time.time()
        alive = replace(self._holder, last_sign=clock)
        snapshot = observe(self._state, self._progress, clock, alive, self._name)
        if size is None:
            log.info("%s", in_words(snapshot))
            # A calculation of a day is not to fill the log.
            self._quiet = min(2 * self._quiet, _LONGEST_QUIET_S)
            self._quiet_until = now + self._quiet
            return
        if self._painter is None:
            self._painter = Painter(keep=False, log_lines=_LOG_LINES)
            self._painter.start()
            self._terminal.setStream(sys.stdout)
        self._painter.paint(snapshot, size)

    def _stop(self) -> None:
        if self._painter is not None:
            self._painter.stop()
            self._painter = None
            self._terminal.setStream(sys.stdout)

    def __enter__(self) -> RunView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
