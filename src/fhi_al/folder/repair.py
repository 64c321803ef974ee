"""`FHI_AL-journal`: look at a run's journal, check it, and go back to an earlier state of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhi_al.errors import FhiAlError, InputError, JournalError
from fhi_al.folder.artefacts import Artefacts, Inventory, needed_walkers
from fhi_al.folder.lock import FolderLock, read_holder
from fhi_al.procedures.run import stage_words, step
from fhi_al.procedures.state import State
from fhi_al.record.codec import to_json
from fhi_al.record.events import Event, Labelled, Opened, Started
from fhi_al.record.files import storage_error, sync, write_file
from fhi_al.record.journal import Record, read_sound_part

_SHOWN = 100
_LISTED = 12


@dataclass(frozen=True)
class _Found:
    """A journal as it lies in a folder.

    Attributes:
        path: of the journal.
        records: the sound ones, up to the first that is damaged.
        damage: what is wrong with the next one, or None.
        torn: bytes of a last record that was cut off.
    """

    path: Path
    records: list[Record]
    damage: str | None
    torn: int

    @property
    def artefacts(self) -> Artefacts:
        """The files that its events name."""
        first = self.records[0].event
        assert isinstance(first, Opened)
        root = self.path.parent.parent
        checkpoints = root / first.inputs.get("GENERAL.checkpoints_dir", "checkpoints")
        return Artefacts(self.path.parent, checkpoints, first.run)


def _find(place: Path) -> _Found:
    """Read the journal of a run, or the one that is named.

    Args:
        place: the folder of the run, or a journal in its `restart/`.
    """
    path = Path(place).absolute()
    if not path.is_file():
        path = _journal_in(path / "restart")
    records, damage, torn = read_sound_part(path)
    if not records or not isinstance(records[0].event, Opened):
        raise JournalError(f"{path}: not even the first record is whole ({damage or 'torn'})")
    return _Found(path, records, damage, torn)


def _journal_in(restart: Path) -> Path:
    """That of the run; where there is none, the only one of another command."""
    own = restart / "journal.jsonl"
    others = sorted(restart.glob("*.jsonl"))
    if own.is_file() or len(others) == 1:
        return own if own.is_file() else others[0]
    if others:
        raise InputError(
            f"{restart}: there is no journal of a run here, but several of other commands; name "
            f"one of them: {', '.join(path.name for path in others)}"
        )
    raise InputError(f"{own}: there is no journal; name the folder with the input files")


# --- check -----------------------------------------------------------------------------------


def check(directory: Path) -> int:
    """Say what is fine and what is not.

    Args:
        directory: of the run, or the file of a journal in it.

    Returns:
        Exit code: 0 where the run can go on.
    """
    found = _find(directory)
    print(f"{found.path}: {len(found.records)} records are whole")
    if found.torn:
        print(f"the last record was cut off ({found.torn} bytes); the next command drops it")
    problems = [found.damage] if found.damage else []
    state = _state(found.records)
    problems += _check_labels(found)
    holder = read_holder(found.path.parent)
    if holder is None:
        problems += _check_state(state, found.artefacts)
    else:
        print(
            f"A job on {holder.host}, process {holder.pid}, works here: walkers and weights, which "
            "it replaces all the time, are not checked."
        )
    for problem in problems:
        print(f"PROBLEM: {problem}")
    if problems:
        print(f"To go back to a state that is complete: FHI_AL-journal repair {directory}")
        return 1
    if holder is None:
        print(f"The run, in the stage {stage_words(state)}, can go on.")
    return 0


def _check_labels(found: _Found) -> list[str]:
    """Read all labels that the journal names, and compare."""
    problems: list[str] = []
    labelled = [r.event for r in found.records if isinstance(r.event, Labelled)]
    for event in labelled:
        try:
            label = found.artefacts.labels.get(event.key)
        except FhiAlError as error:
            problems.append(str(error))
            continue
        if label.energy != event.energy:
            path = found.artefacts.labels.path(event.key)
            problems.append(f"{path} has {label.energy} eV, but the journal {event.energy} eV")
    print(f"{len(labelled) - len(problems)} of {len(labelled)} labels are whole, and as named")
    return problems


def _check_state(state: State, artefacts: Artefacts) -> list[str]:
    """Load what the next command would begin with."""
    import torch

    from fhi_al.md.walkers_file import load_walkers

    problems = [f"{path} is missing" for path in Inventory(artefacts).missing(state)]
    number = 0
    for name in needed_walkers(state):
        if not artefacts.walkers(name).exists():
            continue
        number += 1
        try:
            load_walkers(artefacts.walkers(name))
        except JournalError as error:
            problems.append(str(error))
    for member in range(state.rules.ensemble_size) if state.books.weights else ():
        path = artefacts.checkpoint(state.books.weights or "", member)
        if path.exists():
            number += 1
            try:
                torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # torch raises whatever it comes upon in a damaged file
                problems.append(f"{path} can't be read: {error}")
    print(f"{number} files of walkers and weights were loaded")
    return problems


def _state(records: list[Record]) -> State:
    state: State | None = None
    for record in records:
        state = step(state, record.event)
    assert state is not None
    return state


# --- repair ----------------------------------------------------------------------------------


def repair(directory: Path, until: int | None) -> int:
    """Go back to the state after some records; without a number, list those that are complete.

    Args:
        directory: of the run, or the file of a journal in it.
        until: number of records to keep.

    Returns:
        Exit code.
    """
    found = _find(directory)
    candidates = dict(_candidates(found))
    if until is None:
        _list(candidates, len(found.records))
        return 0
    if until not in candidates:
        raise InputError(
            f"--until {until}: the state after {until} of {len(found.records)} records can't be "
            "restored, as files that it needs are gone; `FHI_AL-journal repair` lists those that "
            "can be"
        )
    lock = FolderLock(found.path.parent)
    try:
        backup = _cut(found.path, until)
    finally:
        lock.release()
    print(f"{until} records are kept: {candidates[until]}")
    print(f"The journal as it was is in {backup}")
    return 0


def _cut(path: Path, until: int) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    backup = path.with_name(f"{path.name}.{stamp}")
    while backup.exists():
        backup = backup.with_name(f"{backup.name}+")
    try:
        shutil.copy2(path, backup)
        sync(backup)
    except OSError as error:
        raise storage_error(backup, error) from error
    lines = path.read_bytes().split(b"\n")[:until]
    write_file(path, lambda file: file.write(b"\n".join([*lines, b""])))
    return backup


def _candidates(found: _Found) -> Iterator[tuple[int, str]]:
    """Numbers of records after which all files are there, with a description of the state."""
    inventory = Inventory(found.artefacts)
    state: State | None = None
    for record in found.records:
        event = record.event
        if isinstance(event, Labelled) and inventory.missing_label(event.key):
            return  # nor can any later one
        state = step(state, event)
        if not inventory.missing(state):
            labels = sum(state.books.outcomes.values())
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time))
            yield record.number + 1, f"{when}, {stage_words(state)}, {labels} labels"


def _list(candidates: dict[int, str], size: int) -> None:
    """Show the last of each run of numbers."""
    ends = [number for number in candidates if number + 1 not in candidates]
    print(f"The journal has {size} sound records. States that can be restored (the last ones):")
    for number in ends[-_LISTED:]:
        first = number
        while first - 1 in candidates:
            first -= 1
        numbers = f"{first} to {number}" if first < number else str(number)
        print(f"  --until {numbers}: {candidates[number]}")


# --- show ------------------------------------------------------------------------------------


def show(directory: Path, tail: int | None) -> int:
    """Print the events.

    Args:
        directory: of the run, or the file of a journal in it.
        tail: only so many, the last ones.

    Returns:
        Exit code.
    """
    found = _find(directory)
    records = found.records if tail is None else found.records[-tail:] if tail else []
    for record in records:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time))
        print(f"{record.number + 1:6d}  {when}  {_line(record.event)}")
    if found.damage:
        print(f"PROBLEM: {found.damage}")
    return 0


def _line(event: Event) -> str:
    data = to_json(event)
    kind = data.pop("event")
    if isinstance(event, Started):
        data["worker"] = str(event.worker)
    return f"{kind:14s}" + ", ".join(f"{name}: {_short(value)}" for name, value in data.items())


def _short(value: Any) -> str:
    if isinstance(value, (list, dict)) and len(json.dumps(value)) > _SHOWN:
        return f"({len(value)} values)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
