"""Near-duplicates and different ones, against the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhi_al.atoms import diversity
from fhi_al.atoms.diversity import best, decorrelation, euclidean, first_of_alike, nearest


def points(seed: int, count: int, numbers: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, numbers))


@given(seed=st.integers(0, 1000), n=st.integers(0, 8), m=st.integers(0, 8), chunk=st.integers(1, 9))
def test_the_nearest_is_found_whatever_is_in_memory(seed, n, m, chunk):
    rows, others = points(seed, n), points(seed + 1, m)
    whole = diversity._CHUNK
    diversity._CHUNK = chunk
    try:
        least, which = nearest(rows, others, euclidean)
    finally:
        diversity._CHUNK = whole
    for row, distance, index in zip(rows, least, which, strict=True):
        distances = [np.linalg.norm(row - other) for other in others]
        assert distance == pytest.approx(min(distances, default=np.inf))
        assert index == (int(np.argmin(distances)) if m else -1)


def test_those_that_are_kept_are_not_alike_and_stand_for_all_others():
    rows = points(0, 60, 2)
    stands_for = first_of_alike(rows, 0.5, euclidean)
    kept = sorted(set(stands_for))
    assert 1 < len(kept) < len(rows)
    for index, first in enumerate(stands_for):
        assert np.linalg.norm(rows[index] - rows[first]) < 0.5
        assert first <= index
    apart = euclidean(rows[kept], rows[kept])[~np.eye(len(kept), dtype=bool)]
    assert apart.min() >= 0.5


def test_a_structure_is_not_dropped_for_one_that_is_dropped_itself():
    assert first_of_alike(np.array([[0.0], [0.9], [1.8]]), 1.0, euclidean).tolist() == [0, 0, 2]


def test_with_all_weight_on_the_score_the_largest_are_chosen():
    scores = np.array([0.1, 0.7, 0.3, 0.7])
    assert best(scores, points(0, 4), points(1, 2), 3, 1.0, euclidean) == [1, 3, 2]


def test_with_no_weight_on_the_score_the_farthest_points_are_chosen():
    rows = np.array([[1.0], [5.0], [9.0], [10.0]])
    # 10 is farthest from 0; then 5 is 5 away from 0 and from 10; then 1 and 9 are alike.
    assert best(np.ones(4), rows, np.zeros((1, 1)), 4, 0.0, euclidean) == [3, 1, 0, 2]


@given(seed=st.integers(0, 1000), weight=st.floats(0.0, 1.0), known=st.integers(0, 3))
def test_each_choice_is_the_best_of_those_that_are_left(seed, weight, known):
    rows, others = points(seed, 7), points(seed + 1, known)
    scores = np.random.default_rng(seed).uniform(0.1, 1.0, 7)
    chosen = best(scores, rows, others, 5, weight, euclidean)
    assert len(set(chosen)) == 5
    if not known:
        assert chosen[0] == scores.argmax()
    for place, index in enumerate(chosen):
        base = np.concatenate([others, rows[chosen[:place]]])
        if len(base):
            left = [i for i in range(7) if i not in chosen[:place]]
            away = {i: np.linalg.norm(base - rows[i], axis=1).min() for i in left}
            value = {i: scores[i] ** weight * away[i] ** (1 - weight) for i in left}
            assert value[index] == pytest.approx(max(value.values()))


def test_correlation_of_a_row_with_itself_is_one_and_its_sign_does_not_count():
    rows = points(3, 5, 4)
    distances = decorrelation(rows, np.concatenate([rows, 3.0 - 2.0 * rows]))
    assert np.diag(distances[:, :5]) == pytest.approx(np.zeros(5), abs=1e-12)
    assert np.diag(distances[:, 5:]) == pytest.approx(np.zeros(5), abs=1e-12)
    expected = 1 - np.abs(np.corrcoef(rows))
    assert distances[:, :5] == pytest.approx(expected, abs=1e-12)


def test_rows_without_variance_are_like_no_other():
    assert decorrelation(np.ones((1, 3)), np.ones((2, 3))).tolist() == [[1.0, 1.0]]
