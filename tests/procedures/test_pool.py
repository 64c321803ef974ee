"""The pool: nothing enters twice, nothing is lost, and order matters only where it must."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_run import active, check_invariants, opened, simulate

from fhi_al.procedures.active_learning import ACTIVE_LEARNING
from fhi_al.procedures.pool import Pool, PoolRules
from fhi_al.procedures.run import finished, fold, step, wanted
from fhi_al.procedures.state import Books, State
from fhi_al.record.effects import Advance, Calculate, Select, Train
from fhi_al.record.events import (
    Advanced,
    Candidate,
    Check,
    Labelled,
    LabelRejected,
    Retried,
    Selected,
    Started,
    Trained,
)
from fhi_al.record.outcome import Worker
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules


def learning(**changes: object) -> State:
    """A run with one reference group that has just begun with active learning."""
    rules = simulated_rules(**{"desired_acc": 1e-9, "reference_groups": 1, **changes})
    state = step(None, opened(rules))
    state.stage, state.books.weights = ACTIVE_LEARNING.name, "train-0"
    state.books.members = trained(state, "train-0").members
    state.stages[ACTIVE_LEARNING.name] = ACTIVE_LEARNING.begin(state)
    return state


def found(key: str, trajectory: int = 0, reason: str = "pool", step: int = 10) -> Advanced:
    candidate = Candidate(trajectory, step, key, 0.2, 0.1, reason)  # type: ignore[arg-type]
    check = Check((trajectory,), (step,), (0.2,), (300.0,))
    return Advanced("a", "a", (trajectory,), (step,), (check,), (candidate,), 0.0, "simulated")


def selected(
    *chosen: str, dropped: dict[str, str] | None = None, weights: str = "train-0"
) -> Selected:
    return Selected("s", weights, (), tuple((dropped or {}).items()), chosen, 0.0)


def labelled(key: str) -> Labelled:
    return Labelled(f"label-{key}", key, -1.0, 0.0)


def rejected(key: str) -> LabelRejected:
    return LabelRejected(f"label-{key}", key, "does not converge", 0.0)


def begun(key: str) -> Started:
    return Started(f"label-{key}", Worker("reference", 0), "Calculate")


def trained(state: State, weights: str, epochs: int = 2) -> Trained:
    asked = Train("t", "active_learning", "train-0", (0, 1), epochs, state.books.entries)
    return replace(SimulatedWorker(state.rules).answer(asked), weights=weights)


def after(state: State, *events: object) -> State:
    for event in events:
        state = step(state, event)  # type: ignore[arg-type]
    return state


def asked(state: State) -> list[str]:
    return [effect.key for effect in wanted(state) if isinstance(effect, Calculate)]


def selection(state: State) -> Select | None:
    return next((effect for effect in wanted(state) if isinstance(effect, Select)), None)


# --- whole runs, in random orders ------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    asynchronous=st.booleans(),
    groups=st.integers(1, 3),
    death=st.sampled_from([0.0, 0.05]),
    rejects=st.sampled_from([0.0, 0.3]),
    unstable=st.sampled_from([0.0, 0.02]),
    repeats=st.sampled_from([0.0, 0.3]),
    pooled=st.sampled_from([0.5, 1.0]),
    audit_every=st.sampled_from([0, 20]),
    max_set_size=st.sampled_from([12, 30, 10**6]),
)
def test_in_every_order_nothing_enters_twice_and_nothing_is_lost(
    seed, groups, death, rejects, unstable, repeats, pooled, **changes: object
) -> None:
    rules = simulated_rules(
        desired_acc=1e-9, max_MD_steps=400, reference_groups=groups, converge_al=False, **changes
    )
    worker = SimulatedWorker(
        rules, seed, rejects=rejects, unstable=unstable, repeats=repeats, pooled=pooled
    )
    entered: set[str] = set()
    before = Pool()
    journal = []
    for state, event in simulate(rules, worker, random.Random(seed), groups=groups, death=death):
        journal.append(event)
        check_invariants(state)
        own = active(state)
        if own is None:
            continue
        pool, outcomes = own.pool, state.books.outcomes
        awaited = {walker.candidate.key for walker in own.walkers if walker.candidate}
        inside = {*pool.waiting, *pool.chosen}
        assert len(inside) == len(pool.waiting) + len(pool.chosen)
        assert not inside & {*outcomes, *pool.left, *awaited, *own.audits}
        new = inside - {*before.waiting, *before.chosen}
        assert not new & entered, "a structure entered twice"
        assert not new or isinstance(event, Advanced)
        entered |= new
        assert entered <= {*inside, *outcomes, *pool.left, *awaited}, "a structure is lost"
        committed = state.books.train_size + len(awaited) + len(pool.chosen)
        assert committed <= rules.max_set_size, "the budget is exceeded"
        if newly := pool.chosen.keys() - before.chosen.keys():
            assert isinstance(event, Selected)
            assert event.weights == state.books.weights, "chosen by scores of older models"
            assert newly <= {key for key, _ in event.scores}
        if isinstance(event, Trained):
            assert all(f"label-{key}" in state.books.in_flight for key in pool.chosen)
        before = Pool(dict(pool.waiting), dict(pool.chosen))
    own = active(state)
    assert own is not None
    assert entered
    assert fold(journal) == state, "the state does not follow from the journal"
    assert len(set(worker.labelled)) == len(worker.labelled) or death
    if "max_MD_steps" in str(own.reason):
        assert not own.pool, "structures were found, and forgotten"


def test_a_run_that_finds_structures_for_the_pool_only_learns_from_them() -> None:
    rules = simulated_rules(desired_acc=1e-9, max_MD_steps=400, max_set_size=10**6)
    worker = SimulatedWorker(rules, 3, pooled=1.0)
    for state, _ in simulate(rules, worker, random.Random(3)):  # the last one counts
        own = active(state)
        assert own is None or all(w.status in ("running", "finished") for w in own.walkers)
    assert own is not None
    assert own.n_added > own.n_valid > 0
    assert own.epochs > 0
    assert own.lesson_epochs == 0
    assert "max_MD_steps" in str(own.reason)
    assert any(why.startswith("like ") for why in own.pool.left.values())


@given(data=st.data())
def test_the_order_of_independent_events_does_not_matter(data: st.DataObject) -> None:
    start = [
        *(found(key, step=10) for key in "abcdefg"),
        selected("g", "f"),
        begun("f"),
        begun("g"),
    ]
    events = [
        selected("c", "a", dropped={"b": "like c"}),
        labelled("f"),
        rejected("g"),
        found("k", 0, step=20),
        found("j", 1, step=20),
        found("a", 2, step=20),
        found("c", 2, step=30),
        found("b", 0, step=30),
    ]
    straight = after(learning(), *start, *events)
    shuffled = after(learning(), *start, *data.draw(st.permutations(events)))
    own, other = active(straight), active(shuffled)
    assert own is not None
    assert other is not None
    assert own.pool == other.pool
    assert list(other.pool.chosen) == ["c", "a"]
    assert set(other.pool.waiting) == {"d", "e", "j", "k"}
    assert selection(straight) == selection(shuffled)
    assert straight.books.entries == shuffled.books.entries


@given(keys=st.permutations(["a", "b", "c"]))
def test_the_order_of_entering_does_not_matter(keys: list[str]) -> None:
    first = after(learning(), *map(found, "abc"))
    second = after(learning(), *map(found, keys))
    assert selection(first) == selection(second)
    assert active(first).pool == active(second).pool  # type: ignore[union-attr]


# --- one step after the other ----------------------------------------------------------------


def test_a_walker_goes_on_whose_structure_entered_the_pool() -> None:
    state = after(learning(), found("a"))
    own = active(state)
    assert own is not None
    assert own.walkers[0].status == "running"
    assert own.walkers[0].quiet_checks == 0
    assert asked(state) == []
    after(state, selected("a"))
    assert asked(state) == ["a"]
    assert isinstance(wanted(state)[-1], Advance), "molecular dynamics goes on"


def test_a_look_at_the_pool_goes_before_molecular_dynamics_and_knows_what_else_waits() -> None:
    state = after(learning(), found("b"), found("a", 1), found("w", 2, reason="threshold"))
    look = wanted(state)[-1]
    assert isinstance(look, Select)
    assert look.waiting == ("a", "b")
    assert look.ahead == ("w",)
    assert look.weights == "train-0"
    assert not any(isinstance(effect, Advance | Train) for effect in wanted(state))


def test_no_more_are_chosen_than_labels_can_be_bought() -> None:
    state = after(learning(max_set_size=3), *map(found, "abcdef"))
    look = selection(state)
    assert look is not None
    assert look.count == 3
    # Whoever answers more than was asked for.
    after(state, selected("c", "b", "a", "f"))
    assert asked(state) == ["c", "b", "a"]
    assert selection(state) is None
    # One that gives no label makes room for another, of which none is left to be chosen for.
    after(state, rejected("c"))
    look = selection(state)
    assert look is None or look.count == 1
    assert not any(isinstance(effect, Advance) for effect in wanted(state)), "nothing can be bought"


def test_more_are_chosen_when_half_of_them_are_left() -> None:
    state = after(learning(), *map(found, "abcdefg"), selected("a", "b", "c", "d"))
    assert selection(state) is None
    after(state, labelled("a"))
    assert selection(state) is None
    after(state, labelled("b"))
    look = selection(state)
    assert look is not None
    assert look.count == 2
    assert look.ahead == ("c", "d")


def test_after_a_training_all_are_scored_again_but_those_that_are_begun() -> None:
    state = after(learning(), *map(found, "abcd"), selected("a", "b"), begun("a"))
    after(state, trained(state, "train-1"))
    assert asked(state) == ["a"]
    look = selection(state)
    assert look is not None
    assert look.weights == "train-1"
    assert look.waiting == ("b", "c", "d")
    assert look.ahead == ("a",)


def test_a_look_by_older_models_changes_nothing() -> None:
    state = after(learning(), *map(found, "abc"))
    after(state, trained(state, "train-1"))
    look = selection(state)
    after(state, selected("a", dropped={"b": "like a"}))
    assert asked(state) == []
    again = selection(state)
    assert look is not None
    assert again is not None
    assert again.waiting == ("a", "b", "c")
    assert again.id != look.id, "it is asked for anew"


def test_what_was_dropped_is_remembered_with_its_reason_and_stays_out() -> None:
    state = after(learning(), *map(found, "ab"), selected("a", dropped={"b": "like a"}), found("b"))
    own = active(state)
    assert own is not None
    assert own.pool.left == {"b": "like a"}
    assert list(own.pool.structures()) == ["a"]
    assert list(ACTIVE_LEARNING.structures(state, own)) == ["a"]


@pytest.mark.parametrize("answer", [labelled, rejected])
def test_what_has_an_outcome_stays_out(answer) -> None:
    state = after(learning(), found("a"), selected("a"), answer("a"), found("a"))
    own = active(state)
    assert own is not None
    assert not own.pool


def test_labels_of_the_pool_are_trained_on_like_those_that_walkers_wait_for() -> None:
    state = learning(max_epochs_worker=4, valid_ratio=0.0)
    after(state, found("a"), selected("a"), labelled("a"))
    assert [entry.key for entry in state.books.entries] == ["a"]
    after(state, found("x", 1, reason="overdue"), labelled("x"))
    own = active(state)
    assert own is not None
    epochs = 0
    while own.walkers[1].status == "training":
        assert own.lesson_epochs == 4 - epochs
        own.moving_pays = False
        assert isinstance(wanted(state)[-1], Train)
        epochs += 2
        after(state, trained(state, f"train-{epochs}"))
    assert epochs == 4
    assert own.lesson_epochs == 0
    own.moving_pays = False
    assert isinstance(wanted(state)[-1], Advance)


def test_what_a_walker_waits_for_is_not_in_the_pool() -> None:
    state = after(learning(), found("a"), found("a", 1, reason="unstable"), found("a", 2))
    own = active(state)
    assert own is not None
    assert not own.pool
    assert asked(state) == ["a"]
    after(state, labelled("a"))
    assert [entry.key for entry in state.books.entries] == ["a"]


def test_what_is_in_the_pool_is_no_sanity_check_and_the_other_way_round() -> None:
    state = after(learning(), found("a"), found("a", 1, reason="audit"))
    after(state, found("b", reason="audit"), found("b", 1))
    own = active(state)
    assert own is not None
    assert set(own.audits) == {"b"}
    assert set(own.pool.waiting) == {"a"}


def test_a_rejected_structure_of_the_pool_can_be_tried_again() -> None:
    state = after(learning(), found("a"), selected("a"), rejected("a"), Retried(("a",)), found("a"))
    own = active(state)
    assert own is not None
    assert not own.pool
    assert asked(state) == ["a"]
    after(state, labelled("a"))
    assert [entry.key for entry in state.books.entries] == ["a"]


def test_it_is_known_where_a_structure_of_the_pool_comes_from() -> None:
    state = after(learning(), found("a", 2), selected("a"))
    origin = ACTIVE_LEARNING.origin(state.stages["active_learning"], "a")
    assert origin is not None
    assert (origin.trajectory, origin.step, origin.uncertainty) == (2, 10, 0.2)
    (label,) = (effect for effect in wanted(state) if isinstance(effect, Calculate))
    assert (label.trajectory, label.uncertainty, label.threshold) == (2, 0.2, 0.1)
    after(state, rejected("a"))
    assert state.books.rejected["a"].origin.trajectory == 2


def test_the_end_of_all_trajectories_waits_for_the_pool() -> None:
    state = learning(num_trajectories=1, max_MD_steps=10, max_epochs_worker=2, converge_al=False)
    own = active(state)
    assert own is not None
    after(state, found("a"))
    assert own.walkers[0].status == "finished"
    assert own.reason is None
    after(state, selected("a"), labelled("a"))
    assert own.reason is None, "it is still to be learned"
    after(state, trained(state, "train-1"))
    assert "max_MD_steps" in str(own.reason)
    assert not finished(state)


def test_nothing_is_bought_any_more_when_the_stage_ends() -> None:
    state = after(learning(max_set_size=1), found("a"), found("b"), selected("a"), begun("a"))
    # A look at the pool that is still in work.
    after(state, Started("s", Worker("ML", 0), "Select"), labelled("a"))
    assert asked(state) == []
    after(state, selected("b"))
    own = active(state)
    assert own is not None
    assert "max_set_size" in str(own.reason)
    assert not own.pool.chosen
    assert list(ACTIVE_LEARNING.structures(state, own)) == []


def test_a_pool_asks_for_nothing_while_there_are_no_models() -> None:
    pool, books = Pool(), Books()
    pool.enter(books, Candidate(0, 1, "a", 0.1, None, "pool"))
    assert pool.wanted(PoolRules(ahead=4), books, 10) is None
    books.weights = "train-0"
    assert pool.wanted(PoolRules(ahead=4), books, 0) is None
    assert pool.wanted(PoolRules(ahead=4), books, 10) is not None
