"""Labels of one composition in a row, but not for ever."""

from __future__ import annotations

from collections import deque

import pytest

from fhi_al.record.effects import Calculate, Evaluate
from fhi_al.record.outcome import Worker
from fhi_al.workers.batching import MOST_IN_A_ROW, Batching


def label(number: int, composition: str) -> Calculate:
    return Calculate(f"label-{number}", str(number), "initial", composition=composition)


def hand_out(compositions: str) -> str:
    """The order in which one group gets these labels."""
    batching = Batching()
    waiting = deque(label(number, which) for number, which in enumerate(compositions))
    got = ""
    while waiting:
        effect = batching.choose(Worker("reference", 0), waiting[0], list(waiting)[1:])
        waiting.remove(effect)
        batching.note(Worker("reference", 0), effect)
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
        effect = batching.choose(Worker("reference", 0), oldest, list(waiting)[1:])
        waiting.remove(effect)
        batching.note(Worker("reference", 0), effect)
        overtaken = 0 if effect is oldest else overtaken + 1
        assert overtaken <= MOST_IN_A_ROW


def test_each_group_has_its_own() -> None:
    batching = Batching()
    for group, which in ((Worker("reference", 0), "A"), (Worker("reference", 1), "B")):
        batching.note(group, label(0, which))
    first, second = label(1, "A"), label(2, "B")
    assert batching.fits(Worker("reference", 0), first)
    assert not batching.fits(Worker("reference", 0), second)
    assert batching.choose(Worker("reference", 1), first, [second]) is second
    assert batching.choose(Worker("reference", 2), first, [second]) is first


def test_other_work_is_left_alone() -> None:
    batching = Batching()
    evaluate = Evaluate("evaluate", "weights", (0,), ())
    batching.note(Worker("ML", 0), evaluate)
    assert batching.choose(Worker("ML", 0), evaluate, [label(0, "A")]) is evaluate
    assert not batching.fits(Worker("ML", 0), evaluate)
