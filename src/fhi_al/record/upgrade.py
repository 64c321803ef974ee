"""Records of the first shape of journals, as those of the second: the only reader of old texts.

A journal of the first shape names workers by texts (`ml`, `ml1`, `reference0`), which tell their
role and number, and the kind of an effect only by its id (`label-...`, `train-3`).
"""

from __future__ import annotations

import re
from typing import Any

from fhi_al.record.effects import (
    Advance,
    Calculate,
    Effect,
    Evaluate,
    Export,
    Import,
    Isolate,
    ReferenceStep,
    Sample,
    Train,
)

_ROLES = {"ml": "ML", "reference": "reference"}

_KINDS: dict[str, type[Effect]] = {
    "isolate": Isolate,
    "label": Calculate,
    "sample": Sample,
    "md": ReferenceStep,
    "advance": Advance,
    "train": Train,
    "evaluate": Evaluate,
    "export": Export,
    "import": Import,
}
"""By the first letters of the id."""


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """Turn an event of format 1 into one of format 2.

    Args:
        data: its fields, and its kind under `event`, as JSON has them.

    Raises:
        ValueError: no version has written this.
    """
    new = dict(data)
    if new.get("event") == "Opened":
        new["places"] = [
            {**place, "workers": [_worker(text) for text in place["workers"]]}
            for place in new.get("places", ())
        ]
    elif new.get("event") == "Started":
        new["worker"] = _worker(new["worker"])
        new["kind"] = _kind(new["effect"])
    elif new.get("event") == "Failed":
        new.pop("worker", None)  # as good as the role of the rank, which `Opened` tells
    elif "work" in new:
        new["work"] = [{**work, "worker": _worker(work["worker"])} for work in new["work"]]
    return new


def _worker(text: str) -> list[Any]:
    match = re.fullmatch(r"(ml|reference)(\d*)", text)
    if match is None:
        raise ValueError(f"{text!r} is no worker")
    role, number = match.groups()
    return [_ROLES[role], int(number or 0)]


def _kind(effect: str) -> str:
    match = re.match(r"[a-z]+", effect)
    kind = _KINDS.get(match[0]) if match else None
    if kind is None:
        raise ValueError(f"{effect!r} is no effect")
    return kind.__name__
