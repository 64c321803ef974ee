"""Every kind of event survives the way through JSON."""

from __future__ import annotations

import json
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhi_al.record import events
from fhi_al.record.codec import from_json, to_json
from fhi_al.record.events import Event

KINDS = typing.get_args(Event)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_round_trip(kind: type, data: st.DataObject) -> None:
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    st.register_type_strategy(float, numbers)
    changes = {"settings": st.just({"a": 1})} if kind is events.Opened else {}
    event = data.draw(st.builds(kind, **changes))
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


def test_unknown_kinds_and_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown event 'Nonsense'"):
        from_json({"event": "Nonsense"})
    with pytest.raises(ValueError, match="no field 'colour'"):
        from_json({"event": "Started", "effect": "a", "worker": "b", "colour": 1})
    with pytest.raises(ValueError, match="missing"):
        from_json({"event": "Started", "effect": "a"})
