"""What is chosen from the pool, and what dropped, once its structures are described."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fhi_al.atoms.diversity import best, first_of_alike, nearest
from fhi_al.atoms.structure import FloatArray
from fhi_al.record.effects import Select
from fhi_al.record.events import Selected
from fhi_al.record.measures import MEASURES

_DIGITS = 6


def selected(
    effect: Select,
    rows: Mapping[str, FloatArray],
    known: Mapping[str, FloatArray],
    scores: Mapping[str, float],
) -> Selected:
    """Drop near-duplicates, choose the best, and drop the worst of what is too much.

    What comes out depends on the keys and the numbers alone, not on any order.

    1. A structure that is nearer than `alike` to a known one, or to a waiting one with a smaller
       key that stays, is dropped.
    2. `count` of the others are chosen, as `diversity.best` says, with their scores.
    3. Of those that are left, the `capacity` with the largest scores stay, the rest is dropped.

    Args:
        effect: how to choose.
        rows: key -> what it is compared by, of every waiting structure.
        known: likewise of the structures that are labelled, or to be labelled.
        scores: key -> uncertainty in eV/Å, of every waiting structure.

    Returns:
        The event, with no seconds yet.
    """
    distances = MEASURES[effect.by].distances
    # As few digits as the journal holds: rounding errors of the models choose nothing.
    score = {key: float(f"{scores[key]:.{_DIGITS}g}") for key in effect.waiting}
    dropped: dict[str, str] = {}
    keys: list[str] = []
    for key in sorted(effect.waiting):
        if np.isfinite(score[key]) and np.isfinite(rows[key]).all():
            keys.append(key)
        else:
            dropped[key] = "the models have nothing finite to say of it"
    others = sorted(known)
    known_rows = _stacked(known, others)
    away, which = nearest(_stacked(rows, keys), known_rows, distances)
    for key, distance, index in zip(keys, away, which, strict=True):
        if distance < effect.alike:
            dropped[key] = _like(others[index], distance, effect.by)
    keys = [key for key in keys if key not in dropped]
    table = _stacked(rows, keys)
    for key, index in zip(keys, first_of_alike(table, effect.alike, distances), strict=True):
        if (first := keys[index]) != key:
            distance = distances(rows[key][None], rows[first][None]).item()
            dropped[key] = _like(first, distance, effect.by)
    keys = [key for key in keys if key not in dropped]
    values = np.array([score[key] for key in keys])
    table = _stacked(rows, keys)
    chosen = [
        keys[index]
        for index in best(values, table, known_rows, effect.count, effect.weight, distances)
    ]
    rest = sorted(set(keys) - set(chosen), key=lambda key: (-score[key], key))
    for key in rest[effect.capacity :]:
        dropped[key] = (
            f"its score of {score[key]:g} eV/Å is not among the {effect.capacity} largest"
        )
    stay = sorted({*chosen, *rest[: effect.capacity]})
    return Selected(
        effect=effect.id,
        weights=effect.weights,
        scores=tuple((key, score[key]) for key in stay),
        dropped=tuple(sorted(dropped.items())),
        chosen=tuple(chosen),
        seconds=0.0,
    )


def _stacked(rows: Mapping[str, FloatArray], keys: list[str]) -> FloatArray:
    return np.stack([rows[key] for key in keys]) if keys else np.empty((0, 0))


def _like(key: str, distance: float, by: str) -> str:
    # A difference by rounding alone is none.
    return f"like {key}, at a distance of {round(distance, _DIGITS):.2g} ({by})"
