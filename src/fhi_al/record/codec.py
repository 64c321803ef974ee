"""Events as plain data and back: what a line of the journal holds."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, Union

from fhi_al.record.events import Event

_EVENTS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Event)}
_FIELDS: dict[type, dict[str, Any]] = {}


def to_json(event: Event) -> dict[str, Any]:
    """Turn an event into plain data: its fields, and its kind under `event`."""
    return {"event": type(event).__name__, **_plain(event)}


def _plain(value: Any) -> Any:
    # dataclasses.asdict deep-copies every leaf; a long history of checks makes that felt.
    if dataclasses.is_dataclass(value):
        return {name: _plain(getattr(value, name)) for name in _fields(type(value))}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def from_json(data: Mapping[str, Any]) -> Event:
    """Build the event that `to_json` took apart.

    Raises:
        ValueError: an unknown kind of event, or fields that are not its own.
    """
    fields = dict(data)
    kind = _EVENTS.get(fields.pop("event", ""))
    if kind is None:
        raise ValueError(f"unknown event {data.get('event')!r}")
    event: Event = _build(kind, fields)
    return event


def _fields(kind: type) -> dict[str, Any]:
    if kind not in _FIELDS:
        _FIELDS[kind] = typing.get_type_hints(kind)
    return _FIELDS[kind]


def _build(kind: type, data: Mapping[str, Any]) -> Any:
    if strange := data.keys() - _fields(kind).keys():
        raise ValueError(f"{kind.__name__} has no field {min(strange)!r}")
    values = dict(data)
    for name, read in _readers(kind):
        if name in values:
            values[name] = read(values[name])
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


_Reader: TypeAlias = Callable[[Any], Any]


@functools.cache
def _readers(kind: type) -> list[tuple[str, _Reader]]:
    """For the fields whose values are not plain data."""
    found = [(name, _reader(hint)) for name, hint in _fields(kind).items()]
    return [(name, read) for name, read in found if read is not None]


def _reader(hint: Any) -> _Reader | None:
    """What turns plain data into a value of a type; None where it is one already.

    Made once for each field: a long journal has millions of values.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and args[-1] is Ellipsis:
        return _tuple_reader(_reader(args[0]))
    if origin is tuple:
        readers = [_reader(arg) for arg in args]
        return lambda data: tuple(
            item if read is None else read(item) for read, item in zip(readers, data, strict=True)
        )
    if origin in (Union, types.UnionType):
        inner = next(_reader(arg) for arg in args if arg is not type(None))
        return inner and (lambda data: None if data is None else inner(data))
    if isinstance(hint, type) and issubclass(hint, tuple):
        return lambda data: hint(*data)
    if dataclasses.is_dataclass(hint):
        return functools.partial(_build, typing.cast(type, hint))
    return None


def _tuple_reader(inner: _Reader | None) -> _Reader:
    if inner is None:
        return tuple
    return lambda data: tuple([inner(item) for item in data])
