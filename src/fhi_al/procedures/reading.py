"""The rules of a run, as its journal has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhi_al.procedures.rules import Rules
from fhi_al.procedures.stop import (
    CONVERGE_STOP_CRITERIA,
    INITIAL_STOP_CRITERIA,
    STOP_CRITERIA,
    defaults,
)


def read_rules(settings: Mapping[str, Any]) -> Rules:
    """The rules of a command.

    Args:
        settings: of its `Opened` event. Journals of earlier versions don't say what ends a stage,
            and mean the defaults.

    Raises:
        TypeError: another version has written them.
    """
    plain: dict[str, Any] = {
        "initial_stop_when": defaults(INITIAL_STOP_CRITERIA),
        "stop_when": defaults(STOP_CRITERIA),
        "converge_stop_when": defaults(CONVERGE_STOP_CRITERIA),
    }
    plain |= {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return Rules(**plain)
