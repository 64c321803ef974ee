"""Records of the first shape of journals."""

from __future__ import annotations

from typing import Any

import pytest

from fhi_al.record.codec import from_json
from fhi_al.record.events import Event, Failed, Opened, Started, Trained
from fhi_al.record.outcome import Place, Work, Worker
from fhi_al.record.upgrade import upgrade

OPENED = Opened(
    "run",
    {"n": 1},
    "digest",
    "0",
    3,
    ("H",),
    "host",
    1.5,
    places=(
        Place("a", (Worker("ML", 0), Worker("reference", 0)), "cpu", 1),
        Place("a", (Worker("ML", 12),), "cpu", 1),
        Place("b", (Worker("reference", 255),), "cpu", 1),
        Place("b", (), "", 1),
    ),
)
PLACES = [
    {"host": "a", "workers": ["ml", "reference0"], "device": "cpu", "threads": 1},
    {"host": "a", "workers": ["ml12"], "device": "cpu", "threads": 1},
    {"host": "b", "workers": ["reference255"], "device": "cpu", "threads": 1},
    {"host": "b", "workers": [], "device": "", "threads": 1},
]
PLAIN: dict[str, Any] = {
    "event": "Opened",
    "goal": "run",
    "settings": {"n": 1},
    "engine": "digest",
    "version": "0",
    "n_atoms": 3,
    "elements": ["H"],
    "host": "host",
    "time": 1.5,
}
OLD: list[tuple[dict[str, Any], Event]] = [
    ({**PLAIN, "places": PLACES}, OPENED),
    (PLAIN, Opened("run", {"n": 1}, "digest", "0", 3, ("H",), "host", 1.5)),
    (
        {
            "event": "Trained",
            "effect": "train-3",
            "weights": "train-3",
            "members": [],
            "trained": [0],
            "epochs": 2,
            "n_entries": 1,
            "history": [],
            "seconds": 2.0,
            "work": [
                {"worker": "ml", "began": 0.0, "ended": 2.0, "busy": 1.0},
                {"worker": "ml1", "began": 0.0, "ended": 1.0, "busy": 1.0},
            ],
        },
        Trained(
            "train-3",
            "train-3",
            (),
            (0,),
            2,
            1,
            (),
            2.0,
            work=(Work(Worker("ML", 0), 0.0, 2.0, 1.0), Work(Worker("ML", 1), 0.0, 1.0, 1.0)),
        ),
    ),
    (
        {
            "event": "Failed",
            "worker": "controller",
            "host": "a",
            "rank": 0,
            "error": "Boom",
            "traceback": "",
        },
        Failed("a", 0, "Boom", ""),
    ),
]


@pytest.mark.parametrize(("old", "event"), OLD)
def test_an_old_record_is_read_as_what_it_meant(old: dict[str, Any], event: Event) -> None:
    before = repr(old)
    assert from_json(upgrade(old)) == event
    assert repr(old) == before


@pytest.mark.parametrize(
    ("effect", "kind"),
    [
        ("label-0a1b2c", "Calculate"),
        ("isolate", "Isolate"),
        ("sample-0", "Sample"),
        ("md-7", "ReferenceStep"),
        ("md12-7", "ReferenceStep"),
        ("advance-3", "Advance"),
        ("train-12", "Train"),
        ("evaluate-initial_dataset", "Evaluate"),
        ("export-convergence", "Export"),
        ("import", "Import"),
    ],
)
def test_the_kind_of_an_effect_follows_from_its_old_id(effect: str, kind: str) -> None:
    old = {"event": "Started", "effect": effect, "worker": "reference7"}
    assert from_json(upgrade(old)) == Started(effect, Worker("reference", 7), kind)


@pytest.mark.parametrize(
    "changes", [{"worker": "somebody"}, {"worker": "ml-1"}, {"effect": "dance-1"}, {"effect": ""}]
)
def test_what_no_version_has_written_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is no "):
        upgrade({"event": "Started", "effect": "import", "worker": "ml", **changes})
