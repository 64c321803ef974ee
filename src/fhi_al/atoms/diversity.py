"""Which of many structures are worth more than others: near-duplicates out, different ones first.

Structures are rows of numbers here, and what makes two of them alike is a function of such rows.
Importing this imports no SciPy: settings read the table of measures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fhi_al.atoms.structure import FloatArray, IntArray

Distances: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
"""From (n, numbers) and (m, numbers) to (n, m), none below zero."""

_CHUNK = 4_000_000
"""Distances that are in memory at a time."""


def euclidean(a: FloatArray, b: FloatArray) -> FloatArray:
    """Euclidean distances."""
    from scipy.spatial.distance import cdist

    # Differences are squared one by one: near-duplicates are much nearer than squares are exact.
    distances: FloatArray = cdist(a, b)
    return distances


def decorrelation(a: FloatArray, b: FloatArray) -> FloatArray:
    """One minus the absolute value of the correlation of two rows.

    Rows without any variance, of which nothing can be told, are like no other.

    Source: the selector of the surrogate fine-tuning program (examol), which prunes by the
    correlation, in magnitude, of mean-centred energies of its models.
    """
    from scipy.spatial.distance import cdist

    correlation = 1.0 - np.nan_to_num(cdist(a, b, "correlation"), nan=1.0)
    distances: FloatArray = np.clip(1.0 - np.abs(correlation), 0.0, 1.0)
    return distances


def nearest(
    rows: FloatArray, others: FloatArray, distances: Distances
) -> tuple[FloatArray, IntArray]:
    """Find the nearest of other structures to each structure.

    Args:
        rows: (n, numbers).
        others: (m, numbers); may be none.
        distances: that count.

    Returns:
        (n,) distances, infinite where there is no other, and (n,) which ones, the first of equals.
    """
    least = np.full(len(rows), np.inf)
    which = np.full(len(rows), -1)
    size = max(_CHUNK // max(len(rows), 1), 1)
    for first in range(0, len(others) if len(rows) else 0, size):
        found = distances(rows, others[first : first + size])
        at = found.argmin(axis=1)
        found = found[np.arange(len(rows)), at]
        nearer = found < least
        least[nearer], which[nearer] = found[nearer], first + at[nearer]
    return least, which


def first_of_alike(rows: FloatArray, alike: float, distances: Distances) -> IntArray:
    """Go through structures in order and keep those that are like none of the kept ones.

    Args:
        rows: (n, numbers).
        alike: distance below which two structures are alike.
        distances: that count.

    Returns:
        (n,) the kept one that stands for each: itself, or the first that it is like.
    """
    stands_for = np.full(len(rows), -1)
    for index in range(len(rows)):
        if stands_for[index] >= 0:
            continue
        rest = index + np.flatnonzero(stands_for[index:] < 0)
        stands_for[rest[distances(rows[index : index + 1], rows[rest])[0] < alike]] = index
        stands_for[index] = index
    return stands_for


def best(
    scores: FloatArray,
    rows: FloatArray,
    known: FloatArray,
    count: int,
    weight: float,
    distances: Distances,
) -> list[int]:
    """Choose structures one by one, each the best when those before are as good as known.

    The best has the largest `s^w d^(1-w)`, and is the first of equals.

    | symbol | meaning |
    |---|---|
    | s | its score |
    | d | its distance to the nearest structure that is known or chosen before |
    | w | `weight`: 1 takes the largest scores, 0 the farthest points |

    Where nothing is known, the first choice has the largest score.

    Args:
        scores: (n,), none below zero.
        rows: (n, numbers) of the structures.
        known: (m, numbers) of known ones.
        count: how many to choose, at most.
        weight: from 0 to 1.
        distances: that count.

    Returns:
        Indices, the best first.
    """
    chosen: list[int] = []
    away, _ = nearest(rows, known, distances)
    left = np.ones(len(rows), dtype=bool)
    while len(chosen) < count and left.any():
        value = scores if np.isinf(away).all() else scores**weight * away ** (1.0 - weight)
        index = int(np.where(left, value, -1.0).argmax())
        chosen.append(index)
        left[index] = False
        away = np.minimum(away, distances(rows, rows[index : index + 1])[:, 0])
    return chosen
