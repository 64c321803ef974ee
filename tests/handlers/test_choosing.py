"""What leaves the pool, and why, when its structures are points on a line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhi_al.handlers.choosing import selected
from fhi_al.record.effects import Select
from fhi_al.record.measures import MEASURES

WHERE = {"a": 1.0, "b": 1.05, "c": 2.0, "d": 4.0, "e": 7.0, "f": 0.02}
SCORES = {"a": 0.1, "b": 0.9, "c": 0.3, "d": 0.2, "e": 0.4, "f": 0.8}
KNOWN = {"k": 0.0, "l": 20.0}


def effect(**changes) -> Select:
    asked = {
        "id": "select-0",
        "weights": "train-3",
        "waiting": tuple(WHERE),
        "ahead": (),
        "entries": (),
        "count": 2,
        "capacity": 10,
        "by": "descriptors",
        "alike": 0.1,
        "weight": 0.5,
    }
    return Select(**{**asked, **changes})


def rows(where):
    return {key: np.array([place, 0.0]) for key, place in where.items()}


def choose(asked, where=WHERE, known=KNOWN, scores=SCORES):
    return selected(asked, rows(where), rows(known), scores)


def test_near_duplicates_of_known_and_waiting_structures_are_dropped():
    answer = choose(effect())
    assert dict(answer.dropped) == {
        "b": "like a, at a distance of 0.05 (descriptors)",
        "f": "like k, at a distance of 0.02 (descriptors)",
    }
    assert answer.weights == "train-3"
    assert set(dict(answer.scores)) == {"a", "c", "d", "e"}


def test_the_best_are_chosen_by_score_and_distance_and_the_rest_stays():
    # sqrt(score x distance): e 0.4 x 7, then d 0.2 x 3 or c 0.3 x 2: alike, the smaller key.
    assert choose(effect(count=1)).chosen == ("e",)
    answer = choose(effect(count=3), scores={**SCORES, "d": 0.21})
    assert answer.chosen == ("e", "d", "c")
    assert set(dict(answer.scores)) == {"a", "c", "d", "e"}


def test_what_is_too_much_leaves_by_its_score():
    answer = choose(effect(count=1, capacity=2))
    assert dict(answer.dropped)["a"] == "its score of 0.1 eV/Å is not among the 2 largest"
    assert set(dict(answer.scores)) == {"c", "d", "e"}
    equal = choose(effect(count=1, capacity=1), scores=dict.fromkeys(WHERE, 0.5))
    assert set(dict(equal.scores)) == {"e", "a"}, "of equals, the smaller keys stay"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_the_models_can_not_judge_is_dropped(bad):
    answer = choose(effect(), scores={**SCORES, "e": bad})
    assert "nothing finite" in dict(answer.dropped)["e"]
    assert "e" not in answer.chosen
    where = {**WHERE, "e": bad}
    assert "nothing finite" in dict(choose(effect(), where=where).dropped)["e"]


def test_an_empty_pool_is_no_trouble():
    answer = choose(effect(waiting=()), where={}, scores={})
    assert answer.chosen == answer.dropped == answer.scores == ()


@given(
    order=st.permutations(sorted(WHERE)),
    known=st.permutations(sorted(KNOWN)),
    count=st.integers(1, 5),
    capacity=st.integers(1, 4),
    weight=st.floats(0.0, 1.0),
    score=st.lists(st.sampled_from([0.0, 0.1, 0.2]), min_size=6, max_size=6),
)
def test_no_order_counts_and_nothing_is_lost(order, known, count, capacity, weight, score):
    scores = dict(zip(sorted(WHERE), score, strict=True))
    asked = {"count": count, "capacity": capacity, "weight": weight}
    straight = choose(effect(**asked), scores=scores)
    shuffled = choose(
        effect(waiting=tuple(order), **asked),
        where={key: WHERE[key] for key in order},
        known={key: KNOWN[key] for key in known},
        scores={key: scores[key] for key in reversed(order)},
    )
    assert straight == shuffled
    stay, dropped = dict(straight.scores), dict(straight.dropped)
    assert stay.keys() | dropped.keys() == WHERE.keys()
    assert not stay.keys() & dropped.keys()
    assert set(straight.chosen) <= stay.keys()
    assert len(straight.chosen) == min(count, 4)
    assert len(stay) - len(straight.chosen) <= capacity


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_says_what_it_is_and_is_a_distance(name):
    measure = MEASURES[name]
    assert callable(measure.load())
    assert measure.words
    numbers = np.random.default_rng(0).normal(size=(5, 4))
    distances = measure.distances(numbers, numbers)
    assert np.diag(distances) == pytest.approx(np.zeros(5), abs=1e-12)
    assert distances == pytest.approx(distances.T)
    assert distances[~np.eye(5, dtype=bool)].min() > 0
