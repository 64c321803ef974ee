"""The view that a run gives of itself, on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest

from fhi_al.analysis.progress import Progress
from fhi_al.folder.lock import Holder
from fhi_al.monitor import live
from fhi_al.monitor.live import RunView
from fhi_al.monitor.narrator import start_logging
from fhi_al.monitor.terminal import terminal_size
from fhi_al.procedures.run import step
from fhi_al.record.events import Event, Opened, Sampled, Started
from fhi_al.record.outcome import Worker
from fhi_al.workers.simulated import simulated_rules

LINES, COLUMNS = 30, 90
HIDE_CURSOR, SHOW_CURSOR, CURSOR_UP = "\x1b[?25l", "\x1b[?25h", "\x1b[1A"


class Screen:
    """A terminal: what is written to `file` arrives here."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        os.set_blocking(self.master, False)
        self.file = os.fdopen(slave, "w", encoding="utf-8")
        self.modes = termios.tcgetattr(slave)

    def read(self) -> str:
        """What has arrived since the last call."""
        self.file.flush()
        found = b""
        try:
            while more := os.read(self.master, 65536):
                found += more
        except BlockingIOError:
            return found.decode()
        return found.decode()

    def hang_up(self) -> None:
        os.close(self.master)
        self.master = -1


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm-256color")
    # Of whoever runs the tests.
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(live, "PERIOD_S", 0.0)
    yield screen
    if screen.master >= 0:
        screen.read()
        os.close(screen.master)
    try:
        screen.file.close()
    except OSError:
        return  # it was hung up


@pytest.fixture(autouse=True)
def logger() -> Iterator[None]:
    """Leave logging as it was."""
    logger = logging.getLogger("fhi_al")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate, logger.level = before


Tell = Callable[[Event], None]


def view(monkeypatch: pytest.MonkeyPatch, output: TextIO) -> tuple[RunView, Tell]:
    """A view of a run that has begun, with this standard output, and how to tell it more."""
    monkeypatch.setattr(sys, "stdout", output)
    now = time.time()
    terminal = start_logging("INFO")
    opened = Opened("run", simulated_rules().to_json(), "", "0", 3, ("H",), "a", now)
    state = step(None, opened)
    run_view = RunView("water", Holder("here", 17, now - 1, now), state, Progress(), terminal)

    def tell(event: Event) -> None:
        run_view(step(state, event), event)

    run_view(state, opened)
    tell(Sampled("sample-0", None, ("a", "b", "c"), 1.0))
    tell(Started("label-a", Worker("reference", 0), "Calculate"))
    return run_view, tell


log = logging.getLogger("fhi_al.test")


def test_the_log_scrolls_above_a_drawing_that_stays(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_view, _ = view(monkeypatch, screen.file)
    with run_view:
        run_view.look()
        first = screen.read()
        assert "water" in first
        assert "initial dataset" in first
        assert "1 in work, 0 handed out, 2 wanted" in first
        assert CURSOR_UP not in first
        log.info("label 1: -3 eV")
        second = screen.read()
        # The drawing is erased, the line stands where it stood, the drawing comes again below.
        assert second.index(CURSOR_UP) < second.index("label 1: -3 eV") < second.index("water")
        run_view.look()
        assert "water" in screen.read()
        print("what Python prints")
        assert "what Python prints" in screen.read()
    rest = screen.read()
    assert CURSOR_UP in rest
    assert "water" not in rest.rpartition(CURSOR_UP)[2]
    log.info("after it")
    assert screen.read().endswith("after it\r\n")


def test_a_killed_process_leaves_nothing_to_put_right(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no moment is the cursor hidden, or a mode of the terminal changed."""
    run_view, _ = view(monkeypatch, screen.file)
    run_view.look()
    log.info("a line")
    run_view.look()
    text = screen.read()
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    assert "\x1b[?1049h" not in text
    assert termios.tcgetattr(screen.file) == screen.modes
    run_view.__exit__(None, None, None)


def test_an_exception_ends_the_drawing(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    run_view, _ = view(monkeypatch, screen.file)
    run_view.look()
    screen.read()
    with pytest.raises(RuntimeError), run_view:
        raise RuntimeError
    assert sys.stdout is screen.file
    log.error("what happened")
    text = screen.read()
    assert text.endswith("what happened\r\n")
    assert "water" not in text.rpartition(CURSOR_UP)[2]


def test_a_terminal_that_goes_away_does_not_end_the_run(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_view, tell = view(monkeypatch, screen.file)
    with run_view:
        run_view.look()
        screen.hang_up()
        run_view.look()
        tell(Started("label-b", Worker("reference", 0), "Calculate"))
        run_view.look()
        assert sys.stdout is screen.file


def test_a_mistake_in_the_drawing_does_not_end_the_run(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a mistake")

    run_view, _ = view(monkeypatch, screen.file)
    with run_view:
        run_view.look()
        monkeypatch.setattr(live, "draw", fail)
        run_view.look()
        run_view.look()
        text = screen.read()
    assert text.count("The run is no longer shown: ZeroDivisionError: a mistake\r\n") == 1


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_are_left_out_where_that_is_asked_for(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, no_color: bool
) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    run_view, _ = view(monkeypatch, screen.file)
    with run_view:
        run_view.look()
    text = screen.read()
    assert "running" in text
    assert ("\x1b[32m" in text) is not no_color


def test_a_small_terminal_is_not_overfilled(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl.ioctl(screen.file, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 40, 0, 0))
    run_view, _ = view(monkeypatch, screen.file)
    with run_view:
        run_view.look()
        text = screen.read()
    assert "water" in text
    assert text.count("\r\n") < 12


# --- not a terminal ----------------------------------------------------------------------------


def test_a_quiet_log_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    output = io.StringIO()
    monkeypatch.setenv("FORCE_COLOR", "1")
    now = [1000.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    run_view, tell = view(monkeypatch, output)
    lines = []
    with run_view:
        for second in range(3600):
            now[0] += 1.0
            run_view.look()
            if text := output.getvalue():
                lines.append((second + 1, text))
                output.truncate(0)
                output.seek(0)
            if second == 2000:
                tell(Sampled("sample-1", None, (), 1.0))
            elif second == 2001:
                tell(Started("label-b", Worker("reference", 0), "Calculate"))
    # Every minute first, then less often; anew after each news.
    assert [second // 60 for second, _ in lines] == [1, 3, 7, 15, 31, 34, 36, 40, 48]
    for _, text in lines:
        assert "\x1b" not in text
        assert text.count("\n") == 1
        assert "initial dataset, for " in text
        assert "1 label for " in text


# --- which terminal ----------------------------------------------------------------------------


def test_a_terminal_has_a_size_and_other_files_have_none(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert terminal_size(screen.file) == (COLUMNS, LINES)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert terminal_size(io.StringIO()) is None
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as pipe:
        assert terminal_size(pipe) is None
    monkeypatch.setenv("TERM", "dumb")
    assert terminal_size(screen.file) is None
