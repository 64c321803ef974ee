"""What a walker may do next."""

from __future__ import annotations

import itertools

import pytest

from fhi_al.procedures.walkers import MOVES, IllegalMoveError, WalkerState


@pytest.mark.parametrize(("before", "after"), [*itertools.product(MOVES, MOVES)])
def test_only_legal_moves_are_made(before, after):
    walker = WalkerState(3, status=before, step=7)
    if after == before or after in MOVES[before]:
        walker.move(after)
        assert walker.status == after
    else:
        with pytest.raises(IllegalMoveError, match=f"from {before} to {after} at step 7"):
            walker.move(after)
        assert walker.status == before


def test_an_illegal_move_is_told_with_the_story_of_the_walker():
    walker = WalkerState(3)
    for step, status in ((20, "labelling"), (20, "training"), (20, "running"), (40, "finished")):
        walker.step = step
        walker.move(status)
    with pytest.raises(IllegalMoveError) as caught:
        walker.move("training")
    assert str(caught.value) == (
        "trajectory 3 can't go from finished to training at step 40; it was labelling at step 20, "
        "training at step 20, running at step 20, finished at step 40"
    )


@pytest.mark.parametrize(("step", "status"), [(9, "running"), (10, "finished"), (11, "finished")])
def test_a_walker_goes_on_to_its_end(step, status):
    walker = WalkerState(0, status="training", step=step)
    walker.go_on(10)
    assert walker.status == status
