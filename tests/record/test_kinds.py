"""The table of kinds of effect has everything of each of them."""

from __future__ import annotations

import inspect
import pkgutil
import typing
from collections import defaultdict
from dataclasses import fields

import pytest

from fhi_al.record.effects import Effect
from fhi_al.record.events import Event
from fhi_al.record.kinds import KINDS, kind_named, leading_to
from fhi_al.record.outcome import Outcome, Role, Worker

EFFECTS = typing.get_args(Effect)
OUTCOMES = {event for event in typing.get_args(Event) if issubclass(event, Outcome)}


def names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def test_each_member_of_the_union_has_its_entry_and_nothing_else_has() -> None:
    assert set(KINDS) == set(EFFECTS)
    assert len({effect.__name__ for effect in KINDS}) == len(EFFECTS)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
def test_an_entry_is_whole(effect: type[Effect]) -> None:
    kind = KINDS[effect]
    assert kind_named(effect.__name__) is kind
    assert kind.role in typing.get_args(Role)
    assert kind.word.strip()
    assert kind.outcomes
    assert set(kind.outcomes) <= OUTCOMES
    handler = pkgutil.resolve_name(kind.handler)
    _, given = inspect.signature(handler).parameters.values()
    # As text: the annotations of handlers are not evaluated.
    assert given.annotation == effect.__name__


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
def test_a_duration_is_of_fields_that_are_there(effect: type[Effect]) -> None:
    duration = KINDS[effect].duration
    if duration is None:
        return
    asked = object.__new__(effect)
    for name in names(effect):
        object.__setattr__(asked, name, 3)
    for outcome in KINDS[effect].outcomes:
        told = object.__new__(outcome)
        for name in names(outcome):
            object.__setattr__(told, name, 6.0 if name == "seconds" else 3)
        # What took 6 s takes 6 s when the same is asked for.
        assert duration.of_one(told) * duration.how_many(asked) == 6.0


def test_each_outcome_is_of_a_kind_and_of_one_word_and_role() -> None:
    assert all(outcome in leading_to(outcome).outcomes for outcome in OUTCOMES)
    shared = defaultdict(set)
    for kind in KINDS.values():
        for outcome in kind.outcomes:
            shared[outcome].add((kind.word, kind.role))
    assert dict.fromkeys(OUTCOMES, 1) == {o: len(w) for o, w in shared.items()}


def test_workers_are_told_apart_and_have_one_text() -> None:
    workers = [Worker("ML", 0), Worker("ML", 1), Worker("reference", 0), Worker("reference", 10)]
    assert [str(worker) for worker in sorted(set(workers))] == [
        "ML 0",
        "ML 1",
        "reference 0",
        "reference 10",
    ]
