"""Events as plain data and back: what a line of the journal holds."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Union

from fhi_al.events import Event

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
    hints = _fields(kind)
    if unknown := set(data) - set(hints):
        raise ValueError(f"{kind.__name__} has no field {sorted(unknown)[0]!r}")
    try:
        return kind(**{name: _value(hints[name], value) for name, value in data.items()})
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _value(hint: Any, data: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return tuple(_value(args[0], item) for item in data)
        return tuple(_value(arg, item) for arg, item in zip(args, data, strict=True))
    if origin in (Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        return None if data is None else _value(inner[0], data)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), data)
    return data
