"""Whatever is in a file: it is read, or refused with a sentence. `make soak` tries more of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fhi_al.errors import InputError, JournalError
from fhi_al.procedures.run import fold
from fhi_al.record.codec import to_json
from fhi_al.record.events import Closed, Event, Labelled, Opened, Started
from fhi_al.record.journal import FORMAT, Journal, read_journal
from fhi_al.settings import load_inputs
from fhi_al.settings.active_learning import ActiveLearning, Misc, Parallel
from fhi_al.settings.base import Section
from fhi_al.settings.control_in import parse_control
from fhi_al.settings.geometry_in import parse_geometry
from fhi_al.settings.mace import Architecture, General, MaceMisc, Training
from fhi_al.settings.md import MdSettings
from fhi_al.settings.reference import XtbSettings
from fhi_al.workers.simulated import simulated_rules

SECTIONS: dict[str, dict[str, type[Section]]] = {
    "mace_settings.yaml": {
        "GENERAL": General,
        "ARCHITECTURE": Architecture,
        "TRAINING": Training,
        "MISC": MaceMisc,
    },
    "active_learning_settings.yaml": {
        "ACTIVE_LEARNING": ActiveLearning,
        "MD": MdSettings,
        "REFERENCE": XtbSettings,
        "PARALLEL": Parallel,
        "MISC": Misc,
    },
}
GEOMETRY = "atom 0.0 0.0 0.119 O\natom 0.0 0.763 -0.477 H\natom 0.0 -0.763 -0.477 H\n"
_WORDS = """
atom atom_frac lattice_vector constrain_relaxation velocity initial_moment initial_charge H O Si Xx
0 1 -1 2.5 1e400 nan inf .true. true x y # species nucleus spin collinear none charge multiplicity
fixed_spin_moment k_grid xc pbe occupation_type gaussian output
"""
WORDS = _WORDS.split()

fuzzed = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
text = st.text(max_size=12) | st.sampled_from(WORDS)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | text
    | st.sampled_from(["1e-3", "None", "auto", "[1, 2]", "~", "$NOT_SET/x", "/dev/null", "\0"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def read_or_refuse(read: Callable[[], Any]) -> Any:
    """What is read, or None where it is refused, with sentences that say something."""
    try:
        return read()
    except InputError as error:
        problems = error.problems
    assert problems
    assert all(problem.strip() for problem in problems)
    return None


def write(folder: Path, changes: dict[tuple[str, str], dict[str, Any]]) -> Path:
    """Good inputs, with changes: (file, section) -> settings."""
    folder.mkdir(exist_ok=True)
    for name in SECTIONS:
        data: dict[str, Any] = {"REFERENCE": {"engine": "xtb"}} if "active" in name else {}
        for (file, section), more in changes.items():
            if file == name:
                data[section] = {**data.get(section, {}), **more}
        (folder / name).write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    (folder / "geometry.in").write_text(GEOMETRY)
    return folder


places = st.sampled_from([(file, name) for file, kinds in SECTIONS.items() for name in kinds])


@st.composite
def changes(draw: st.DrawFn) -> dict[tuple[str, str], dict[str, Any]]:
    """Settings that exist, with values that make sense or not."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file, section in draw(st.lists(places, min_size=1, max_size=3)):
        names = [*SECTIONS[file][section].model_fields]
        found[file, section] = draw(st.dictionaries(st.sampled_from(names), values, max_size=3))
    return found


@fuzzed
@given(changes=changes())
def test_any_values_of_settings(
    tmp_path: Path, changes: dict[tuple[str, str], dict[str, Any]]
) -> None:
    read_or_refuse(lambda: load_inputs(write(tmp_path, changes)))


@fuzzed
@given(
    place=places, key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), value=values
)
@example(("mace_settings.yaml", "TRAINING"), "Lr", 0.1)
def test_no_unknown_key_is_accepted(
    tmp_path: Path, place: tuple[str, str], key: str, value: Any
) -> None:
    kind = SECTIONS[place[0]][place[1]]
    assume(key not in kind.model_fields and key not in kind.renamed)
    with pytest.raises(InputError) as error:
        load_inputs(write(tmp_path, {place: {key: value}}))
    assert any(place[0] in problem for problem in error.value.problems)


@fuzzed
@given(
    files=st.dictionaries(st.sampled_from(sorted(SECTIONS)), st.binary(max_size=200), min_size=1)
)
def test_any_bytes_in_place_of_settings(tmp_path: Path, files: dict[str, bytes]) -> None:
    write(tmp_path, {})
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    read_or_refuse(lambda: load_inputs(tmp_path))


lines = st.lists(st.lists(text, max_size=6).map(" ".join), max_size=10).map("\n".join)


@fuzzed
@given(lines | st.text(max_size=200))
def test_any_control_in(control: str) -> None:
    read_or_refuse(lambda: parse_control(control).for_aims(["H"], periodic=False))


@fuzzed
@given(lines | st.text(max_size=200))
def test_any_geometry_in(geometry: str) -> None:
    found = read_or_refuse(lambda: parse_geometry(geometry))
    assert found is None or len(found[0]) > 0


@fuzzed
@given(key=st.from_regex(r"[a-z_]{1,15}", fullmatch=True), rest=st.lists(text, max_size=4))
def test_no_unknown_key_of_geometry_in_is_accepted(key: str, rest: list[str]) -> None:
    assume(key not in WORDS)
    assume(not any("\n" in word or "\r" in word for word in rest))
    known = "hessian_block homogeneous_field symmetry_n_params symmetry_params nuclear_spin"
    assume(not any(key.startswith(word.split("_")[0]) for word in known.split()))
    with pytest.raises(InputError):
        parse_geometry(f"{GEOMETRY}{key} {' '.join(rest)}\n")


# --- journals --------------------------------------------------------------------------------

EVENTS: list[Event] = [
    Opened("run", simulated_rules().to_json(), "digest", "0", 3, ("H",), "host", 0.0),
    Started("label-a", "reference0"),
    Labelled("label-a", "a", -1.5, 0.25),
    Started("label-b", "reference0"),
    Labelled("label-b", "b", -2.5, 0.5, 0.01),
    Closed("finished", 12.0),
]


@fuzzed
@given(
    where=st.floats(0, 1),
    cut=st.integers(0, 30),
    put=st.binary(max_size=30),
    end=st.none() | st.floats(0, 1),
)
def test_a_changed_journal_is_read_as_far_as_it_is_true(
    tmp_path: Path, where: float, cut: int, put: bytes, end: float | None
) -> None:
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    with Journal(path) as journal:
        journal.append(*EVENTS)
    contents = path.read_bytes()
    at = int(where * len(contents))
    changed = contents[:at] + put + contents[at + cut :]
    path.write_bytes(changed if end is None else changed[: int(end * len(changed))])
    try:
        records, size = read_journal(path)
    except JournalError:
        return
    assert [record.event for record in records] == EVENTS[: len(records)]
    assert size <= len(changed)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON that may be an event, or nearly."""
    if draw(st.booleans()):
        return json.dumps(draw(values)).encode()
    data = {"t": 1.0, "format": FORMAT, **to_json(draw(st.sampled_from(EVENTS)))}
    data.update(draw(st.dictionaries(st.sampled_from([*data, "more"]), values, max_size=3)))
    for name in draw(st.lists(st.sampled_from([*data]), max_size=2)):
        data.pop(name, None)
    return json.dumps(data).encode()


@fuzzed
@given(st.lists(bodies(), min_size=1, max_size=4))
def test_sound_records_of_anything_are_read_or_refused(tmp_path: Path, bodies: list[bytes]) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(
        b"".join(
            b"%d %d %08x %s\n" % (number, len(body), zlib.crc32(body), body)
            for number, body in enumerate(bodies)
        )
    )
    try:
        journal = Journal(path)
    except JournalError:
        return
    for record in journal.records:
        assert isinstance(record.time, float)


def test_all_events_of_the_journal_above_fold() -> None:
    assert fold(EVENTS) is not None
