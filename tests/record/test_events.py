"""Every kind of event survives the way through JSON, and nothing else is taken for an event."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhi_al.record.codec import decode, encode, from_json, parse, to_json
from fhi_al.record.events import Died, Event, Labelled, Opened, Trained
from fhi_al.record.outcome import Work

KINDS = typing.get_args(Event)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@each_kind
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_round_trip(kind: type, data: st.DataObject) -> None:
    st.register_type_strategy(float, st.floats())
    changes = {"settings": st.just({"a": 1})} if kind is Opened else {}
    event = data.draw(st.builds(kind, **changes))
    text = encode(event)
    # Not compared as they are: there are some that are no numbers among them, which equal nothing.
    assert repr(decode(text)) == repr(event)
    assert repr(from_json(to_json(event))) == repr(event)
    assert repr(json.loads(text)) == repr(to_json(event))


def test_layout() -> None:
    event = Labelled("label-a", "a", -1.5, 1e-6, rescue="é")
    assert encode(event).decode() == (
        '{"event":"Labelled","effect":"label-a","work":[],"key":"a","energy":-1.5,"seconds":1e-6,'
        '"force_error":null,"formula":"","n_atoms":0,"rescue":"é"}'
    )


def test_whole_numbers_are_floats_too() -> None:
    text = b'{"event":"Labelled","effect":"label-a","key":"a","energy":-1,"seconds":0}'
    event = decode(text)
    assert event == Labelled("label-a", "a", -1.0, 0.0)
    assert isinstance(event, Labelled)
    assert isinstance(event.energy, float)


def test_what_is_no_text_becomes_question_marks() -> None:
    """Names of files may be any bytes; Python has a word for them that JSON has not."""
    event = Died("a", "exit", "caf\udce9", "1")
    assert decode(encode(event)) == Died("a", "exit", "caf?", "1")
    assert parse(json.dumps({"words": "caf\udce9 é"}).encode()) == {"words": "caf? é"}


# --- strictness ------------------------------------------------------------------------------

# Not of these types, and not of a kind that may stand for them.
WRONG: dict[Any, list[Any]] = {
    str: [2, 1.5, True, None, [], {}],
    int: ["2", 1.5, 2.0, True, None, [], {}],
    float: ["1.5", True, None, [], {}],
    tuple: ["ab", 2, None, {"0": 1}],
    Mapping: ["ab", 2, None, [], [["a", 1]]],
    Literal: ["nonsense", 2, None, []],
    "dataclass": ["ab", 2, None, [], {}],
}


def optional(hint: Any) -> Any:
    """The type that a field has if it isn't None; None where it can't be."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        return inner
    return None


def parts(hint: Any) -> list[Any]:
    """The types of what a tuple of this type holds; of one, where all are alike."""
    if isinstance(hint, type) and issubclass(hint, tuple):
        return [*typing.get_type_hints(hint).values()]
    return [arg for arg in typing.get_args(hint) if arg is not Ellipsis]


def sample(hint: Any) -> Any:
    """A value of a type, as JSON has it, in which nothing is empty."""
    if inner := optional(hint):
        return sample(inner)
    if dataclasses.is_dataclass(hint):
        found = {name: sample(part) for name, part in typing.get_type_hints(hint).items()}
        return {"event": hint.__name__, **found} if hint in KINDS else found
    origin = typing.get_origin(hint) or hint
    if origin is Literal:
        return typing.get_args(hint)[0]
    if issubclass(origin, tuple):
        return [sample(part) for part in parts(hint)]
    return {str: "ab", int: 2, float: 1.5, Mapping: {"a": 1}}[origin]


def spoiled(hint: Any, value: Any) -> Iterator[Any]:
    """The value with one thing wrong, in all ways."""
    if inner := optional(hint):
        yield from (wrong for wrong in spoiled(inner, value) if wrong is not None)
    elif dataclasses.is_dataclass(hint):
        for field in dataclasses.fields(hint):
            part = typing.get_type_hints(hint)[field.name]
            for wrong in spoiled(part, value[field.name]):
                yield {**value, field.name: wrong}
            if field.default is field.default_factory is dataclasses.MISSING:
                yield {name: value[name] for name in value if name != field.name}
        yield {**value, "colour": 1}
        yield from WRONG["dataclass"]
    elif isinstance(typing.get_origin(hint) or hint, type) and issubclass(
        typing.get_origin(hint) or hint, tuple
    ):
        yield from WRONG[tuple]
        for index, part in enumerate(parts(hint)):
            for wrong in spoiled(part, value[index]):
                yield [*value[:index], wrong, *value[index + 1 :]]
        if Ellipsis not in typing.get_args(hint):
            yield from ([], value[:-1], [*value, 1])
    else:
        yield from WRONG[typing.get_origin(hint) or hint]


@each_kind
def test_every_field_is_of_its_type_or_refused(kind: type) -> None:
    good = sample(kind)
    assert from_json(good)
    wrongs = list(spoiled(kind, good))
    assert len(wrongs) > 5 * len(dataclasses.fields(kind))
    accepted = []
    for wrong in wrongs:
        try:
            accepted.append((wrong, from_json(wrong)))
        except ValueError as error:
            message = str(error)
            assert "\n" not in message
            assert "pydantic" not in message
            assert len(message) < 200
    assert accepted == []


def test_unknown_kinds_and_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown event 'Nonsense'"):
        from_json({"event": "Nonsense"})
    with pytest.raises(ValueError, match="unknown event None"):
        from_json({"effect": "a"})
    closed = {"event": "Closed", "reason": "a", "time": 1.0}
    assert from_json(closed)
    with pytest.raises(ValueError, match="Closed has no field 'colour'"):
        from_json({**closed, "colour": 1})
    with pytest.raises(ValueError, match="Closed: the field 'time' is missing"):
        from_json({"event": "Closed", "reason": "a"})
    with pytest.raises(ValueError, match="Closed: time is '1': Input should be a valid number"):
        from_json({**closed, "time": "1"})


def test_a_wrong_field_deep_inside_is_named() -> None:
    data = {**to_json(Labelled("label-a", "a", -1.5, 0.0)), "work": [sample(Work)]}
    assert from_json(data)
    data["work"][0]["ended"] = "late"
    with pytest.raises(ValueError, match=r"Labelled: work\.0\.ended is 'late'"):
        from_json(data)


@pytest.mark.parametrize(
    "event",
    [
        Labelled("label-a", "a", "x", 1.0),  # type: ignore[arg-type]
        Labelled("label-a", "a", -1.5, None),  # type: ignore[arg-type]
        Trained("train-1", "train-1", (), (0,), 1, 2, ((0, 1, 0.5, 0.5, 0.1),), 1.0),  # type: ignore[arg-type]
    ],
)
def test_what_could_not_be_read_is_not_written(event: Event) -> None:
    with pytest.raises(ValueError, match=type(event).__name__):
        encode(event)


def test_values_that_json_does_not_know_are_not_written() -> None:
    settings = {"a": object()}
    with pytest.raises(TypeError):
        encode(Opened("run", settings, "digest", "0", 3, ("H",), "host", 0.0))
