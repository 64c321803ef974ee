"""Events as JSON and back: what a line of the journal holds.

    {"event": "Labelled", "effect": "label-4f", "work": [], "key": "4f", "energy": -1.5, ...}

An event's fields, with its kind under `event`. Reading is strict: every field has the type that its
event declares, none is missing that has no default, and none is there that the event doesn't have.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Union

import pydantic_core
from pydantic import ConfigDict, Discriminator, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import core_schema

from fhi_al.record.events import Event
from fhi_al.record.kinds import KINDS

_SHOWN = 40


class _Named:
    """Beside its fields, the data of an event has the name of its class, under `event`."""

    def __get_pydantic_core_schema__(
        self, source: type, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        schema: dict[str, Any] = {**handler.resolve_ref_schema(handler(source))}
        del schema["ref"]  # it names the event without `event`
        name = core_schema.dataclass_field(
            "event", core_schema.literal_schema([source.__name__]), init_only=True, kw_only=True
        )
        arguments = schema["schema"]
        schema["schema"] = {**arguments, "fields": [*arguments["fields"], name]}
        return typing.cast(core_schema.CoreSchema, schema)


def _events() -> TypeAdapter[Event]:
    return _adapter(len(KINDS))


@functools.cache
def _adapter(n_kinds: int) -> TypeAdapter[Event]:
    """Of all events, those included that so many kinds of effect lead to."""
    outcomes = (outcome for kind in KINDS.values() for outcome in kind.outcomes)
    events = dict.fromkeys((*typing.get_args(Event), *outcomes))
    kinds = tuple(Annotated[event, _Named()] for event in events)
    union: Any = Annotated[Union[kinds], Discriminator("event")]  # noqa: UP007 (of a tuple)
    return TypeAdapter(union, config=ConfigDict(strict=True, extra="forbid"))


def encode(event: Event) -> bytes:
    """Write an event as JSON, in UTF-8.

    What `decode` would refuse is not written: the run could never go on from it.

    Raises:
        ValueError: a field of the event has not the type that it declares.
        TypeError: it has a type that JSON has no word for.
    """
    text = _write({"event": type(event).__name__, **_fields(event)})
    decode(text)
    return text


def _write(data: Any) -> bytes:
    try:
        return pydantic_core.to_json(data)
    except ValueError:
        # Half a character, of a file's name that is no text, perhaps; else, Python's own module
        # says what is wrong.
        return json.dumps(data, ensure_ascii=False, default=_fields).encode(errors="replace")


def _fields(value: Any) -> dict[str, Any]:
    # dataclasses.asdict deep-copies every leaf; a long history of checks makes that felt.
    return {name: getattr(value, name) for name in _names(value.__class__)}


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def decode(text: bytes) -> Event:
    """Read an event that `encode` has written.

    Raises:
        ValueError: an unknown kind of event, or fields that are not its own.
    """
    try:
        return _events().validate_json(text)
    except ValidationError as error:
        raise ValueError(_in_words(error)) from None


def _in_words(error: ValidationError) -> str:
    """The first of the problems, in one line."""
    problem = error.errors(include_url=False)[0]
    kind, *path = problem["loc"] or ("an event",)
    field = ".".join(map(str, path))
    if problem["type"].startswith("union_tag"):
        return f"unknown event {problem.get('ctx', {}).get('tag')!r}"
    if problem["type"] == "unexpected_keyword_argument":
        return f"{kind} has no field {field!r}"
    if problem["type"] == "missing":
        return f"{kind}: the field {field!r} is missing"
    got = repr(problem["input"])
    if len(got) > _SHOWN:
        got = f"{got[:_SHOWN]}..."
    return f"{kind}: {field or 'it'} is {got}: {problem['msg']}"


def to_json(event: Event) -> dict[str, Any]:
    """Turn an event into plain data: its fields, and its kind under `event`."""
    data: dict[str, Any] = parse(encode(event))
    return data


def from_json(data: Mapping[str, Any]) -> Event:
    """Build the event that `to_json` took apart.

    Raises:
        ValueError: an unknown kind of event, or fields that are not its own.
    """
    return decode(_write(data))


def parse(text: bytes) -> Any:
    """Read JSON as plain data, much faster than Python's own module does.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return pydantic_core.from_json(text)
    except ValueError:
        # Half a character: earlier versions wrote such a thing.
        return pydantic_core.from_json(_write(json.loads(text.decode())))
