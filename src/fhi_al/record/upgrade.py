"""Records of earlier versions, turned into those of this one.

The only place that knows how events once looked. The reader of a journal passes each record of
format 1 through here; the strict codec then takes the result as it takes any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UPGRADES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By the kind of event as format 1 names it: from its data to that of the same event now."""


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """Turn an event of format 1 into one of format 2.

    Fields that came with later versions have defaults, so that data without them is complete.

    Args:
        data: the event as plain data, its kind under `event`.

    Returns:
        The same as this version would have written it. What is no event is left to the codec.

    Raises:
        ValueError, TypeError, LookupError: it is none that format 1 has.
    """
    change = UPGRADES.get(data.get("event", ""))
    return data if change is None else change(data)
