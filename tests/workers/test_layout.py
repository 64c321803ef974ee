"""The split of the ranks into roles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhi_al.errors import InputError
from fhi_al.workers.layout import plan_layout


def test_one_rank_does_everything() -> None:
    layout = plan_layout(1, None, 1, 0)
    assert layout.ml == (0,)
    assert layout.groups == ((0,),)


@pytest.mark.parametrize(
    ("size", "ml_ranks", "groups", "gpus", "ml", "reference"),
    [
        (2, None, 1, 0, (0,), ((1,),)),
        (4, None, 1, 0, (0,), ((1, 2, 3),)),
        (4, None, 2, 0, (0,), ((1,), (2, 3))),
        (6, 2, 2, 0, (0, 1), ((2, 3), (4, 5))),
        (6, None, 1, 4, (0, 1, 2, 3), ((4, 5),)),
        (3, None, 2, 8, (0,), ((1,), (2,))),
    ],
)
def test_layouts(size, ml_ranks, groups, gpus, ml, reference) -> None:
    layout = plan_layout(size, ml_ranks, groups, gpus)
    assert layout.ml == ml
    assert layout.groups == reference


@pytest.mark.parametrize(
    ("size", "groups", "gpus", "n_ml"),
    [(2, 1, 0, 1), (3, 1, 0, 2), (9, 1, 0, 4), (4, 2, 0, 2), (4, 1, 1, 1)],
)
def test_ranks_that_a_serial_engine_would_leave_idle_learn(size, groups, gpus, n_ml) -> None:
    layout = plan_layout(size, "auto", groups, gpus, parallel_engine=False, most_ml=4)
    assert len(layout.ml) == n_ml


def test_without_being_asked_for_they_do_not():
    layout = plan_layout(6, None, 1, 0, parallel_engine=False, most_ml=4)
    assert layout.ml == (0,)


def test_auto_leaves_ranks_to_a_parallel_engine_and_to_one_rank() -> None:
    assert plan_layout(6, "auto", 1, 0, parallel_engine=True, most_ml=4).ml == (0,)
    assert plan_layout(1, "auto", 1, 0, parallel_engine=False, most_ml=4).ml == (0,)


@pytest.mark.parametrize(
    ("size", "ml_ranks", "groups"), [(1, 2, 1), (1, None, 2), (2, 2, 1), (3, 1, 3), (4, 3, 2)]
)
def test_impossible_layouts_are_refused(size: int, ml_ranks: int | None, groups: int) -> None:
    with pytest.raises(InputError, match="rank"):
        plan_layout(size, ml_ranks, groups, 0)


@given(
    size=st.integers(1, 600),
    ml_ranks=st.none() | st.just("auto") | st.integers(1, 8),
    groups=st.integers(1, 300),
    gpus=st.integers(0, 8),
)
def test_every_rank_has_exactly_one_role(size, ml_ranks, groups, gpus) -> None:
    try:
        layout = plan_layout(size, ml_ranks, groups, gpus)
    except InputError:
        return
    if size == 1:
        return
    ranks = [*layout.ml, *(rank for group in layout.groups for rank in group)]
    assert sorted(ranks) == list(range(size))
    assert layout.ml[0] == 0
    sizes = [len(group) for group in layout.groups]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert [layout.group_of(group[0]) for group in layout.groups] == list(range(len(sizes)))
    assert layout.group_of(0) is None
