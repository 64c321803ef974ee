"""The journal: what has happened, in order, and nothing that has not.

One record a line: its number, the length and the CRC-32 of the rest, and the rest, which is JSON
with the time and the event. A record is on the disk before anyone acts on it. A kill in the
middle of a write leaves a torn last line, which is dropped; anything else that doesn't fit is
damage, and is refused.

    12 187 5a0c3e1f {"t":1764326400.1234,"event":"Labelled","effect":"label-4f",...}

The first record that a command writes also says in which format it and all that follow are:
`"format":2` behind the time. Records without such a word before them are of format 1. So a run may
go on in the journal of an earlier version, and wherever a journal is cut, what is left can be read.
A reader of an earlier version finds the word in the first record that it can't understand.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from fhi_al.errors import JournalError, NewerJournalError
from fhi_al.record.codec import encode, from_json, parse
from fhi_al.record.events import Event
from fhi_al.record.files import storage_error, sync
from fhi_al.record.upgrade import upgrade

FORMAT = 2
"""Of the records that this version writes. It reads this one and all before it."""

_FIRST_FORMAT = 1


@dataclass(frozen=True)
class Record:
    """An event with its place in the journal and the time (seconds since 1970) of its writing."""

    number: int
    time: float
    event: Event


class _NewerError(Exception):
    """A record is of a format that this version doesn't know."""

    def __init__(self, found: int) -> None:
        super().__init__(found)
        self.found = found


def _encode(number: int, when: float, event: Event, *, says_format: bool) -> bytes:
    word = f'"format":{FORMAT},' if says_format else ""
    # The event's own JSON, with these in front.
    body = f'{{"t":{round(when, 4)},{word}'.encode() + encode(event)[1:]
    return b"%d %d %08x %s\n" % (number, len(body), zlib.crc32(body), body)


def _body(line: bytes, number: int) -> bytes:
    """Take a line apart, without its line feed, and check it.

    Raises:
        ValueError: it is not the whole record of this number.
    """
    head, length, checksum, body = line.split(b" ", 3)
    if int(head) != number:
        raise ValueError(f"record {int(head)} stands where {number} should")
    if int(length) != len(body) or int(checksum, 16) != zlib.crc32(body):
        raise ValueError("length or checksum does not fit")
    return body


def _decode(body: bytes, number: int, format_: int) -> tuple[Record, int]:
    """Read a whole record.

    Args:
        body: its JSON.
        number: its place in the journal.
        format_: of the record before it.

    Returns:
        The record, and its format.

    Raises:
        ValueError: another version of the program has written it, or another program.
        _NewerError: a later version of the program has written it.
    """
    try:
        data = parse(body)
        format_ = data.pop("format", format_)
        if not isinstance(format_, int) or format_ < _FIRST_FORMAT:
            raise ValueError(f"there is no format {format_!r}")
        if format_ > FORMAT:
            raise _NewerError(format_)
        when = float(data.pop("t"))
        if format_ == _FIRST_FORMAT:
            data = upgrade(data)
        return Record(number, when, from_json(data)), format_
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is whole, but not of this version: {error}") from None


def read_journal(path: Path) -> tuple[list[Record], int]:
    """Read all whole records.

    Returns:
        The records, and the number of bytes that they fill; more bytes are a torn tail.

    Raises:
        JournalError: a record other than the last is damaged.
        NewerJournalError: a later version of the program has written it.
    """
    records, damage, torn = read_sound_part(path)
    if damage:
        raise _damaged(path, damage)
    return records, path.stat().st_size - torn


def _damaged(path: Path, damage: str) -> JournalError:
    return JournalError(
        f"{damage}. Put back the file from a backup, or see what `FHI_AL-journal check "
        f"{path.parent.parent}` finds, and go back to the state before the damage with "
        "`FHI_AL-journal repair`"
    )


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python from looking for garbage among a million objects that are all needed.

    It would double the time that reading a long journal takes.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@no_collection()
def read_sound_part(path: Path) -> tuple[list[Record], str | None, int]:
    """Read the records up to the first that is not whole.

    Returns:
        The records; what is wrong with the one behind them, in words, if others follow it; if it
        is the last one, the number of its bytes (the trace of a kill).

    Raises:
        NewerJournalError: a later version of the program has written it.
    """
    part = _sound_part(path, path.read_bytes(), 0, _FIRST_FORMAT)
    return part.records, part.damage, part.torn


class _Part(NamedTuple):
    """What `read_sound_part` returns, and the format of the last record."""

    records: list[Record]
    damage: str | None
    torn: int
    format: int


def _sound_part(path: Path, contents: bytes, first: int, format_: int) -> _Part:
    """Read records as `read_sound_part` does, from a part of the journal.

    Args:
        path: of the journal, for messages.
        contents: of the file, from the beginning of a record on.
        first: number of that record.
        format_: of the record before it.
    """
    records: list[Record] = []
    size = 0
    lines = contents.split(b"\n")
    for index, line in enumerate(lines):
        last = index >= len(lines) - 2 and not any(lines[index + 1 :])
        if not line and last:
            break
        body: bytes | None = None
        number = first + index
        try:
            if index == len(lines) - 1:
                raise ValueError("the line does not end")
            body = _body(line, number)
            record, format_ = _decode(body, number, format_)
            records.append(record)
        except _NewerError as newer:
            raise NewerJournalError(
                f"{path} was written by a newer version of FHI_AL (journal format {newer.found}; "
                f"this version reads up to {FORMAT}): use that version, or start in another folder"
            ) from None
        except ValueError as error:
            if last and body is None:
                break
            damage = f"{path}: record {number} is damaged ({error})"
            if body is None:
                damage += (
                    f", and {len(lines) - index - 1} lines follow it, so this is not the trace of "
                    "a kill"
                )
            return _Part(records, damage, 0, format_)
        size += len(line) + 1
    return _Part(records, None, len(contents) - size, format_)


class Follower:
    """Reads a journal that another process may be writing, piece by piece; changes nothing.

    Args:
        path: the file, which may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._file: tuple[int, int] | None = None
        self._begin_at_the_top()

    def _begin_at_the_top(self) -> None:
        self._number = self._size = 0
        self._format = _FIRST_FORMAT

    def read(self) -> list[Record]:
        """The whole records that were added since the last call.

        They begin with number 0 if the journal was replaced meanwhile, or cut: by
        `FHI_AL-journal repair`, for example. Forget the earlier ones, then. A record that is not
        whole yet is left for the next call.

        Raises:
            FileNotFoundError: there is no journal.
            JournalError: a record other than the last is damaged.
            NewerJournalError: a later version of the program has written it.
        """
        with self.path.open("rb") as file:
            about = os.fstat(file.fileno())
            identity = (about.st_dev, about.st_ino)
            if identity != self._file or about.st_size < self._size:
                self._begin_anew()
                self._file = identity
            records, damage = self._rest(file)
            if damage and self._size:
                # Not what stood there before: it was cut, and has grown since.
                self._begin_at_the_top()
                records, damage = self._rest(file)
        if damage:
            raise _damaged(self.path, damage)
        return records

    @no_collection()
    def _rest(self, file: BinaryIO) -> tuple[list[Record], str | None]:
        file.seek(self._size)
        contents = file.read()
        part = _sound_part(self.path, contents, self._number, self._format)
        if not part.damage:
            self._number += len(part.records)
            self._size += len(contents) - part.torn
            self._format = part.format
        return part.records, part.damage


class Journal:
    """The journal of a run, open for appending.

    Args:
        path: the file; made, with its folder, by the first append.

    Attributes:
        records: what was in it when it was opened.

    Raises:
        JournalError: the file is damaged.
        NewerJournalError: a later version of the program has written it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self._file: int | None = None
        self._lock = threading.Lock()
        if path.exists():
            self.records, size = read_journal(path)
            if path.stat().st_size > size:
                try:
                    os.truncate(path, size)
                    sync(path)
                except OSError as error:
                    raise storage_error(path, error) from error
        self._first = self._next = len(self.records)

    def append(self, *events: Event) -> None:
        """Write events; when this returns, the disk has them.

        Raises:
            StorageError: the file system refuses; none of the events is in the journal.
        """
        with self._lock:
            try:
                self._append(events)
            except OSError as error:
                raise storage_error(self.path, error) from error

    def append_last(self, event: Event) -> None:
        """Write an event, and nothing after it: from here on, other threads wait for ever."""
        self._lock.acquire()
        with contextlib.suppress(OSError):
            self._append((event,))

    def _append(self, events: Sequence[Event]) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            sync(self.path.parent)
        now = time.time()
        numbers = range(self._next, self._next + len(events))
        data = b"".join(
            _encode(number, now, event, says_format=number == self._first)
            for number, event in zip(numbers, events, strict=True)
        )
        start = os.fstat(self._file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            # Leave no half record for a later append to build on.
            os.ftruncate(self._file, start)
            raise
        self._next += len(events)

    def close(self) -> None:
        """Close the file; an append would open it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return (record.event for record in self.records)
