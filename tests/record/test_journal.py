"""The journal: torn tails are dropped, damage in the middle is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhi_al.errors import JournalError
from fhi_al.record.events import Closed, Event, Labelled, Started
from fhi_al.record.journal import Follower, Journal, Record, read_journal
from fhi_al.record.outcome import Worker

EVENTS: list[Event] = [
    Started("label-a", Worker("reference", 0), "Calculate"),
    Labelled("label-a", "a", -1.5, 0.25),
    Labelled("label-b", "b", -2.5, 0.5, 0.01),
    Closed("finished", 12.0),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "restart" / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(EVENTS[0])
        journal.append(*EVENTS[1:])
    return path


def test_events_come_back_as_they_were(path: Path) -> None:
    assert list(Journal(path)) == EVENTS


def test_appending_goes_on_where_it_ended(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(EVENTS[0])
    assert list(Journal(path)) == [*EVENTS, EVENTS[0]]


def test_every_torn_tail_leaves_the_whole_records(path: Path) -> None:
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        complete = sum(end <= size for end in ends)
        with Journal(path) as journal:
            assert list(journal) == EVENTS[:complete]
            journal.append(EVENTS[3])
        assert list(Journal(path)) == [*EVENTS[:complete], EVENTS[3]]


def test_torn_tail_of_garbage_is_dropped(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100)
    assert list(Journal(path)) == EVENTS


def test_damage_in_the_middle_is_refused(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[30] ^= 1
    path.write_bytes(whole)
    with pytest.raises(JournalError, match="record 0 is damaged"):
        Journal(path)


def test_a_missing_record_is_refused(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    with pytest.raises(JournalError, match="record 2 stands where 1 should"):
        Journal(path)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "journal.jsonl"
    path.write_bytes(data)
    try:
        records, size = read_journal(path)
    except JournalError:
        return
    assert size <= len(data)
    assert not records


# --- followed from outside ---------------------------------------------------------------------


def events(records: list[Record]) -> list[Event]:
    return [record.event for record in records]


def test_a_follower_reads_each_record_once_when_it_is_whole(path: Path) -> None:
    whole = path.read_bytes()
    path.unlink()
    follower = Follower(path)
    with pytest.raises(FileNotFoundError):
        follower.read()
    seen: list[Record] = []
    for size in range(len(whole) + 1):
        path.touch()
        with path.open("r+b") as file:
            file.write(whole[:size])
        seen += follower.read()
        assert len(seen) == whole[:size].count(b"\n")
    assert events(seen) == EVENTS
    assert [record.number for record in seen] == [0, 1, 2, 3]
    assert path.read_bytes() == whole


def test_a_follower_begins_anew_where_the_journal_was_replaced_or_cut(path: Path) -> None:
    follower = Follower(path)
    assert events(follower.read()) == EVENTS
    lines = path.read_bytes().splitlines(keepends=True)

    path.write_bytes(b"".join(lines[:2]))
    assert events(follower.read()) == EVENTS[:2]

    # Cut and grown between two looks, by a record that is not the one that stood there.
    path.write_bytes(lines[0])
    with Journal(path) as journal:
        journal.append(*EVENTS, *EVENTS)
    again = follower.read()
    assert events(again) == [EVENTS[0], *EVENTS, *EVENTS]
    assert again[0].number == 0

    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    assert follower.read() == again
    assert follower.read() == []


def test_a_follower_refuses_damage_in_the_middle(path: Path) -> None:
    follower = Follower(path)
    follower.read()
    with path.open("ab") as file:
        file.write(b"garbage\ngarbage\n")
    with pytest.raises(JournalError, match="record 4 is damaged"):
        follower.read()
