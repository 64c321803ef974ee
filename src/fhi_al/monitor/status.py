"""`FHI_AL-status`: how a run is coming along, from its journal alone."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from fhi_al.analysis.progress import Progress
from fhi_al.errors import InputError, JournalError
from fhi_al.folder.lock import read_holder
from fhi_al.monitor.drawing import draw, in_words
from fhi_al.monitor.live import PERIOD_S, Painter
from fhi_al.monitor.observe import observe
from fhi_al.monitor.snapshot import Snapshot
from fhi_al.monitor.terminal import terminal_size
from fhi_al.procedures.run import step
from fhi_al.procedures.state import State
from fhi_al.record.events import Opened
from fhi_al.record.journal import Follower

_JOURNAL = "journal.jsonl"


class Reader:
    """Follows a run from outside: reads, and changes nothing.

    Args:
        directory: with the input files.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = Path(directory).absolute() / "restart"
        self._follower: Follower | None = None
        self._state: State | None = None
        self._progress = Progress()
        self._name = self._folder.parent.name

    def look(self) -> Snapshot | None:
        """The run as it is now; None as long as there is no record.

        Raises:
            JournalError: the journal is damaged, or of another version of the program.
        """
        holder = read_holder(self._folder)
        self._read(at_work=holder is not None)
        if holder is None and self._progress.farewell is None:
            # A command that began, or ended, between these two readings has not crashed.
            holder = read_holder(self._folder)
            self._read(at_work=holder is not None)
        if self._state is None:
            return None
        return observe(self._state, self._progress, time.time(), holder, self._name)

    def _journal(self, *, at_work: bool) -> Path | None:
        """The journal that the command at work writes; where none works, that of the run.

        Isolated atoms and recalculations have journals of their own; where there is no run, the
        newest of those is shown.
        """
        found = {path: _written(path) for path in self._folder.glob("*.jsonl")}
        own = self._folder / _JOURNAL
        if not found or (own in found and not at_work):
            return own if found else None
        return max(found, key=lambda path: (found[path], path))

    def _read(self, *, at_work: bool) -> None:
        journal = self._journal(at_work=at_work)
        if journal is None:
            return
        if self._follower is None or self._follower.path != journal:
            self._follower, self._state, self._progress = Follower(journal), None, Progress()
        try:
            records = self._follower.read()
        except FileNotFoundError:
            self._follower = self._state = None
            return
        for record in records:
            if record.number == 0:
                self._state, self._progress = None, Progress()
            event = record.event
            if isinstance(event, Opened):
                self._name = event.inputs.get("GENERAL.name_exp", self._name)
            try:
                self._state = step(self._state, event)
            except (ValueError, TypeError, LookupError) as error:
                raise JournalError(
                    f"{self._follower.path}: another version of the program has written it "
                    f"({error}); look at it with that version"
                ) from error
            self._progress.take(self._state, event, record.time)


def show(directory: Path, *, as_json: bool = False) -> int:
    """Print the status of a run.

    Args:
        directory: of the run.
        as_json: for programs.

    Returns:
        The exit code.

    Raises:
        InputError: there is no run.
    """
    snapshot = Reader(directory).look()
    if snapshot is None:
        raise _nothing(directory)
    if as_json:
        print(to_json(snapshot, indent=2))
    else:
        console = Console(highlight=False)
        console.print(draw(snapshot, bars=console.is_terminal))
    return 0


def watch(directory: Path, *, as_json: bool = False) -> int:
    """Show the status of a run again and again, until it has reached its goal.

    On a terminal, the same tables are drawn every two seconds; elsewhere a line is printed when
    something has happened.

    Args:
        directory: of the run.
        as_json: one line of JSON in place of a plain one.

    Returns:
        The exit code.

    Raises:
        InputError: there is no run.
    """
    reader = Reader(directory)
    snapshot = reader.look()
    if snapshot is None:
        raise _nothing(directory)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        painter: Painter | None = None
        told: object = None
        while True:
            size = None if as_json else terminal_size(sys.stdout)
            if snapshot is not None and size is not None:
                painter = painter or stack.enter_context(Painter(keep=True))
                painter.paint(snapshot, size)
            elif snapshot is not None and told != (snapshot.last_record, snapshot.condition):
                told = snapshot.last_record, snapshot.condition
                print(to_json(snapshot) if as_json else in_words(snapshot), flush=True)
            if snapshot is not None and snapshot.condition == "finished":
                break
            time.sleep(PERIOD_S)
            snapshot = reader.look()
    return 0


def to_json(snapshot: Snapshot, indent: int | None = None) -> str:
    """A snapshot as JSON, which has no numbers like infinity: they become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(asdict(snapshot)), indent=indent, ensure_ascii=False)


def _written(path: Path) -> float:
    """When a file was written last, in seconds since 1970."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _nothing(directory: Path) -> InputError:
    folder = Path(directory).absolute() / "restart"
    if (holder := read_holder(folder)) is not None:
        return InputError(
            f"{folder.parent}: a command is starting (process {holder.pid} on {holder.host}) and "
            "has not written its journal yet; try again in a few seconds"
        )
    return InputError(
        f"{folder / _JOURNAL}: there is no journal; name the folder with the input files of a "
        "run that was started"
    )
