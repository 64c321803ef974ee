"""Journals of earlier versions are read and continued, those of later ones refused.

`first_shape.jsonl` was written by the last version that knew no formats (but for its last four
records, which are as the first of all versions wrote them).
"""

from __future__ import annotations

import json
import math
import shutil
import typing
import zlib
from pathlib import Path
from typing import Any

import pytest

from fhi_al.errors import JournalError, NewerJournalError
from fhi_al.record import journal as journal_module
from fhi_al.record.events import Closed, Died, Event, Labelled, Sampled, Selected, Trained
from fhi_al.record.journal import FORMAT, Follower, Journal, read_journal

SAMPLE = Path(__file__).with_name("first_shape.jsonl")
LATER = {Selected}
"""Kinds of event that the first format did not know."""
MORE: list[Event] = [
    Labelled("label-x", "x", -1.5, 0.25),
    Labelled("label-y", "y", -2.5, 0.5),
    Closed("finished", 12.0),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of the first format."""
    return Path(shutil.copy(SAMPLE, tmp_path / "journal.jsonl"))


def read(path: Path) -> list[Event]:
    return [record.event for record in read_journal(path)[0]]


def bodies(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line.split(b" ", 3)[3]) for line in path.read_bytes().splitlines()]


def line(number: int, body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    return b"%d %d %08x %s\n" % (number, len(text), zlib.crc32(text), text)


def test_all_kinds_of_the_first_format_are_read() -> None:
    events = read(SAMPLE)
    assert {type(event) for event in events} == {*typing.get_args(Event)} - LATER
    first, last = (event for event in events if isinstance(event, Labelled))
    assert (first.energy, first.seconds, first.formula, len(first.work)) == (-13.6, 0.0, "H", 1)
    assert last == Labelled("label-dd", "dd", -2076.5, 2.5)
    assert Sampled("sample-1", None, ("gg",), 0.5) in events
    (trained,) = (event for event in events if isinstance(event, Trained))
    assert trained.history[0] == (0, 1, 0.5, 0.25, 0.031, 0.002)
    assert math.isnan(trained.history[1][3])
    assert trained.history[1][4] == math.inf
    (died,) = (event for event in events if isinstance(event, Died))
    assert died.words == "half a name: ?"


def test_each_command_says_in_which_format_it_writes(path: Path) -> None:
    old = bodies(path)
    before = read(path)
    for _ in range(2):
        with Journal(path) as journal:
            journal.append()
            journal.append(*MORE[:2])
            journal.append(MORE[2])
    assert path.read_bytes().startswith(SAMPLE.read_bytes())
    words = [body.get("format") for body in bodies(path)]
    assert words == [*[None] * len(old), *2 * [FORMAT, None, None]]
    assert repr(read(path)) == repr([*before, *MORE, *MORE])


def test_a_new_journal_says_its_format_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append_last(MORE[2])
    assert bodies(tmp_path / "journal.jsonl")[0]["format"] == FORMAT


def test_what_a_full_disk_refused_is_said_by_the_next_record(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError("full")

    with Journal(path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(Exception, match="full"):
                journal.append(MORE[0])
        journal.append(MORE[1])
    assert bodies(path)[-1]["format"] == FORMAT
    assert read(path)[-1] == MORE[1]


# --- both in one file ------------------------------------------------------------------------


@pytest.fixture
def mixed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal that goes on in the second format, to which a death in the first is upgraded."""
    with Journal(path) as journal:
        journal.append(*MORE, Died("a", "exit", "old", "1"))

    def upgrade(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "words": "upgraded"} if data["event"] == "Died" else true(data)

    true = journal_module.upgrade
    monkeypatch.setattr(journal_module, "upgrade", upgrade)
    return path


def words_of_deaths(events: list[Event]) -> list[str]:
    return [event.words for event in events if isinstance(event, Died)]


def test_only_records_of_the_first_format_are_upgraded(mixed: Path) -> None:
    assert words_of_deaths(read(mixed)) == ["upgraded", "old"]


def test_wherever_a_mixed_journal_is_cut_it_can_be_read_and_continued(mixed: Path) -> None:
    lines = mixed.read_bytes().splitlines(keepends=True)
    whole = read(mixed)
    for size in range(len(lines) + 1):
        mixed.write_bytes(b"".join(lines[:size]))
        with Journal(mixed) as journal:
            assert repr(list(journal)) == repr(whole[:size])
            journal.append(Died("b", "exit", "new", "2"))
        assert words_of_deaths(read(mixed)) == [*words_of_deaths(whole[:size]), "new"]


def test_a_follower_of_a_mixed_journal_knows_the_format_of_each_record(mixed: Path) -> None:
    lines = mixed.read_bytes().splitlines(keepends=True)
    whole = repr(read(mixed))
    follower = Follower(mixed)
    mixed.write_bytes(b"")
    seen: list[Event] = []
    for added in lines:
        with mixed.open("ab") as file:
            file.write(added)
        seen += [record.event for record in follower.read()]
    assert repr(seen) == whole
    # Replaced by its beginning: the formats begin anew as well.
    for size in (len(lines) // 2, len(lines)):
        copy = mixed.with_name("copy")
        copy.write_bytes(b"".join(lines[:size]))
        copy.replace(mixed)
        expected = words_of_deaths(read(mixed))
        assert words_of_deaths([record.event for record in follower.read()]) == expected


# --- later ones ------------------------------------------------------------------------------


def test_a_newer_format_is_refused_in_one_sentence(path: Path) -> None:
    follower = Follower(path)
    n = len(follower.read())
    with path.open("ab") as file:
        file.write(line(n, {"t": 1.0, "format": FORMAT + 1, "event": "Opened", "all": "else"}))
    for reads in (lambda: read_journal(path), lambda: Journal(path), follower.read):
        with pytest.raises(NewerJournalError) as caught:
            reads()
        assert str(caught.value) == (
            f"{path} was written by a newer version of FHI_AL (journal format {FORMAT + 1}; this "
            f"version reads up to {FORMAT}): use that version, or start in another folder"
        )
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("word", ["2", 2.5, None, 0, -1, [2]])
def test_a_format_that_is_none_is_damage(tmp_path: Path, word: Any) -> None:
    path = tmp_path / "journal.jsonl"
    body = {"t": 1.0, "format": word, "event": "Closed", "reason": "finished", "time": 12.0}
    path.write_bytes(line(0, {**body, "format": FORMAT}))
    assert read(path) == [MORE[2]]
    path.write_bytes(line(0, body))
    with pytest.raises(JournalError, match="not of this version: there is no format"):
        read_journal(path)
