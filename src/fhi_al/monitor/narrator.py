"""The log files: every event as a line that a person can read."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from fhi_al.procedures.run import name_of, remaining, stage_of
from fhi_al.procedures.state import State
from fhi_al.record import events
from fhi_al.record.events import Event
from fhi_al.record.files import storage_error

log = logging.getLogger(__name__)


class _LogFile(logging.FileHandler):
    """A log file that may be incomplete where the disk is full; the run doesn't depend on it."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that a line is missing."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            why = error.strerror or error
            print(f"{self.baseFilename} can't be written: {why}", file=sys.stderr)

    def close(self) -> None:
        """Close the file, whether what is left of it can be written or not."""
        with contextlib.suppress(OSError):
            super().close()


class StageLog(logging.Handler):
    """Writes records to the log file of the present stage.

    Args:
        folder: of the log files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._file: _LogFile | None = None

    def turn_to(self, name: str) -> None:
        """Write to the file of this name from now on."""
        path = self._folder / name
        if self._file is not None:
            if Path(self._file.baseFilename) == path:
                return
            self._file.close()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = _LogFile(path, encoding="utf-8")
        except OSError as error:
            raise storage_error(path, error) from error
        self._file.setFormatter(self.formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if self._file is not None:
            self._file.emit(record)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()


def start_logging(level: str, stage_log: StageLog | None = None) -> logging.StreamHandler[TextIO]:
    """Log to the terminal, and to the log file of the stage.

    Args:
        level: of the messages, as `logging` names it.
        stage_log: the log files, if any.

    Returns:
        What logs to the terminal.
    """
    logger = logging.getLogger("fhi_al")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(level)
    terminal = logging.StreamHandler(sys.stdout)
    handlers: list[logging.Handler] = [terminal]
    if stage_log is not None:
        handlers.append(stage_log)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
    return terminal


def start_worker_logging(rank: int) -> None:
    """Send warnings of a rank that is not the controller to standard error.

    Args:
        rank: named in each message.
    """
    logger = logging.getLogger("fhi_al")
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(f"rank {rank}: %(message)s"))
    logger.addHandler(handler)


class Narrator:
    """Tells the events of a run, one by one.

    Args:
        state: at the start of this command.
        stage_log: to be turned to the stage that is told of.
    """

    def __init__(self, state: State, stage_log: StageLog) -> None:
        self._stage = stage_of(state)
        self._stage_log = stage_log
        self._begin(state)

    def __call__(self, state: State, event: Event) -> None:
        """Tell of an event that the state has just taken."""
        if line := self._line(state, event):
            log.info("%s", line)
        before, self._stage = self._stage, stage_of(state)
        if self._stage is before:
            return
        if before is not None and (reason := before.reason(before.own(state))):
            log.info("%s ended: %s", before.title, reason)
        self._begin(state)

    def _line(self, state: State, event: Event) -> str:
        if self._stage is not None:
            words = self._stage.words_for(state, self._stage.own(state), event)
            if words is not None:
                return words
        tell = _TELLERS.get(type(event))
        return tell(state, event) if tell is not None else ""

    def _begin(self, state: State) -> None:
        if self._stage is None:
            return
        self._stage_log.turn_to(self._stage.log_file)
        log.info("%s", self._stage.title)
        if words := self._stage.opening_words(state):
            log.info("%s", words)


def _isolated(state: State, event: events.Isolated) -> str:
    if event.known:
        return "The reference model brings its own energies of the isolated atoms"
    return f"{len(event.atoms)} spin states of isolated atoms to be computed"


def _labelled(state: State, event: events.Labelled) -> str:
    if (name := name_of(state, event.key)) is not None:
        return f"{name}: {event.energy:.6f} eV"
    if event.key in state.books.rejected:
        return f"structure {event.key[:12]} is kept aside: {state.books.rejected[event.key].reason}"
    text = f"label {sum(state.books.outcomes.values())}: {event.energy:.4f} eV"
    if event.rescue:
        text += f", rescued with {event.rescue}"
    if event.force_error is not None:
        text += f", committee was off by {1000 * event.force_error:.1f} meV/Å"
    text += f" ({event.seconds:.2f} s)" if event.seconds else " (from the store)"
    return f"{text}; {remaining(state)}"


def _rejected(state: State, event: events.LabelRejected) -> str:
    what = name_of(state, event.key) or f"structure {event.key[:12]}"
    return f"{what} has no label: {event.reason}"


def _died(state: State, event: events.Died) -> str:
    text = (
        f"structure {event.key[:12]} crashed the reference library ({event.how}) when the run "
        f"ended last: {event.words or 'no last words'}; "
    )
    if event.key in state.books.deaths:
        left = state.rules.max_label_starts - len(state.books.deaths[event.key])
        return f"{text}it is tried again, alone, up to {left} times"
    return f"{text}it is rejected" if event.key in state.books.rejected else ""


def _retried(state: State, event: events.Retried) -> str:
    return f"{len(event.keys)} rejected structures are tried again"


def _sampled(state: State, event: events.Sampled) -> str:
    return f"{len(event.keys)} structures sampled ({event.seconds:.1f} s)"


def _advanced(state: State, event: events.Advanced) -> str:
    steps = ", ".join(f"{t}: {s}" for t, s in zip(event.trajectories, event.steps, strict=True))
    text = f"molecular dynamics to step [{steps}] ({event.seconds:.1f} s, {event.path})"
    # A check at which every walker broke down has no uncertainties.
    checks = [check for check in event.checks if check.uncertainties]
    if checks:
        last = checks[-1]
        text += f"; largest uncertainty {1000 * max(last.uncertainties):.1f} meV/Å"
        text += f", {sum(last.temperatures) / len(last.temperatures):.0f} K"
    for candidate in event.candidates:
        why: str = candidate.reason
        if candidate.detail:
            why = f"{why} after step {candidate.step}: {candidate.detail}"
        what = "is in the pool" if candidate.reason == "pool" else f"chosen ({why})"
        text += f"; trajectory {candidate.trajectory} {what}"
    return text


def _trained(state: State, event: events.Trained) -> str:
    members = [event.members[index] for index in event.trained]
    text = f"{event.epochs} epochs ({event.seconds:.1f} s), "
    text += f"loss {sum(m.loss for m in members) / len(members):.4g}"
    forces = [m.force_mae for m in members if m.force_mae is not None]
    energies = [m.energy_mae for m in members if m.energy_mae is not None]
    if forces and energies:
        text += (
            f"; validation: force MAE {1000 * sum(forces) / len(forces):.1f} meV/Å"
            f", energy MAE {1000 * sum(energies) / len(energies):.2f} meV/atom"
        )
    stage = stage_of(state)
    if stage is not None and (remark := stage.remark(stage.own(state))):
        text += f"; {remark}"
    return text


def _exported(state: State, event: events.Exported) -> str:
    return f"{len(event.files)} files written: {', '.join(event.files[:3])}, ..."


def _imported(state: State, event: events.Imported) -> str:
    return f"{len(event.entries)} labels taken over from {', '.join(event.files)}"


def _selected(state: State, event: events.Selected) -> str:
    looked_at = len(event.scores) + len(event.dropped)
    text = f"{looked_at} structures in the pool ({event.seconds:.1f} s): {len(event.chosen)} chosen"
    if event.dropped:
        text += f", {len(event.dropped)} dropped"
    if event.scores:
        text += f"; largest uncertainty {1000 * max(s for _, s in event.scores):.1f} meV/Å"
    return text


def _failed(state: State, event: events.Failed) -> str:
    text = f"rank {event.rank} on {event.host} failed: {event.error}"
    return f"{text}\n{event.traceback}" if event.traceback else text


_TELLERS: dict[type, Callable[[State, Any], str]] = {
    events.Isolated: _isolated,
    events.Labelled: _labelled,
    events.LabelRejected: _rejected,
    events.Died: _died,
    events.Retried: _retried,
    events.Sampled: _sampled,
    events.Advanced: _advanced,
    events.Trained: _trained,
    events.Exported: _exported,
    events.Imported: _imported,
    events.Selected: _selected,
    events.Failed: _failed,
}
