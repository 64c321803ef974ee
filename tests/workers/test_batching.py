"""Labels of one composition in a row, but not for ever."""

from __future__ import annotations

from collections import deque

import pytest

from fhi_al.record.effects import Calculate, Evaluate
from fhi_al.workers.batching import MOST_IN_A_ROW, Batching


def label(number: int, composition: str) -> Calculate:
    return Calculate(f"label-{number}", str(number), "initial", composition=composition)


def hand_out(compositions: str) -> str:
    """The order in which one group gets these labels."""
    batching = Batching()
    waiting = deque(label(number, which) for number, which in enumerate(compositions))
    got = ""
    while waiting:
        effect = batching.choose("reference0", waiting[0], list(waiting)[1:])
        waiting.remove(effect)
        batching.note("reference0", effect)
        got += effect.composition
    return got


def test_labels_of_one_composition_follow_each_other() -> None:
    assert hand_out("ABABAB") == "AAABBB"
    assert hand_out("ABCABC") == "AABBCC"
    assert hand_out("AAAA") == "AAAA"


@pytest.mark.parametrize("compositions", ["AB" + 50 * "A", 100 * "AABC", 50 * "A" + 50 * "B"])
def test_nothing_waits_for_ever(compositions: str) -> None:
    """Whatever comes, the label that has waited longest is the next but eight at the latest."""
    batching = Batching()
    waiting = deque(label(number, which) for number, which in enumerate(compositions))
    overtaken = 0
    while waiting:
        oldest = waiting[0]
        effect = batching.choose("reference0", oldest, list(waiting)[1:])
        waiting.remove(effect)
        batching.note("reference0", effect)
        overtaken = 0 if effect is oldest else overtaken + 1
        assert overtaken <= MOST_IN_A_ROW


def test_each_group_has_its_own() -> None:
    batching = Batching()
    for group, which in (("reference0", "A"), ("reference1", "B")):
        batching.note(group, label(0, which))
    first, second = label(1, "A"), label(2, "B")
    assert batching.fits("reference0", first)
    assert not batching.fits("reference0", second)
    assert batching.choose("reference1", first, [second]) is second
    assert batching.choose("reference2", first, [second]) is first


def test_other_work_is_left_alone() -> None:
    batching = Batching()
    evaluate = Evaluate("evaluate", "weights", (0,), ())
    batching.note("ml", evaluate)
    assert batching.choose("ml", evaluate, [label(0, "A")]) is evaluate
    assert not batching.fits("ml", evaluate)
