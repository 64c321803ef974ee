"""The forecast of a run against what follows from the settings, and against a real run."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fhi_al.planning.costs import Costs, RankSplit, Rates, WorkSizes
from fhi_al.planning.estimate import rough_duration
from fhi_al.planning.forecast import Forecast, forecast
from fhi_al.procedures.rules import Rules
from fhi_al.record.events import ALL_MEMBERS, Entry, Opened
from fhi_al.workers.simulated import simulated_rules

NO_TIME = Rates(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
INSTANT = Costs(0.0, 1, False, NO_TIME, None, 0.0, 0.0)
SHAPE = WorkSizes(5, 10, 1, 1, 0)
ALONE = RankSplit(0, (1,))


def rules(**changes: object) -> Rules:
    return simulated_rules(max_initial_set_size=12, max_initial_epochs=8, **changes)


def planned(
    settings: Rules,
    costs: Costs = INSTANT,
    split: RankSplit = ALONE,
    shape: WorkSizes = SHAPE,
    goal: str = "run",
) -> Forecast:
    opened = Opened(goal, settings.to_json(), "digest", "0", 3, ("H",), "host", time.time())  # type: ignore[arg-type]
    return forecast(opened, costs, shape, split)


def calls(found: Forecast) -> dict[str, int]:
    return {stage.stage: stage.calls for stage in found.stages}


def test_calls_follow_from_the_sizes_of_the_sets():
    found = planned(rules(max_set_size=50, valid_ratio=0.1))
    # 12 labels for two members: five each to train on, one to validate.
    assert calls(found)["initial_dataset"] == 12
    assert found.train_size == 50
    assert calls(found)["active_learning"] == pytest.approx((50 - 5) / 0.9, abs=1)
    assert "max_set_size" in found.limited_by
    assert found.calls == sum(calls(found).values())


def test_short_trajectories_limit_the_calls():
    found = planned(rules(max_set_size=10_000, max_MD_steps=100, skip_step_mlff=10))
    assert found.md_steps == 3 * 100
    assert calls(found)["active_learning"] <= 3 * 10
    assert "max_set_size" not in found.limited_by


def test_steps_of_ab_initio_molecular_dynamics_are_calls():
    found = planned(rules(initial_method="aimd", skip_step_initial=7))
    # 12 samples, every seventh step, and the start.
    assert 12 * 7 <= calls(found)["initial_dataset"] <= 12 * 7 + 2


def test_isolated_atoms_are_calls():
    found = planned(rules(auto_atomic_energies=True), shape=replace(SHAPE, isolated=7))
    assert calls(found)["atomic_energies"] == 7


def test_data_of_the_user_costs_no_calls():
    entries = tuple(Entry(str(i), ALL_MEMBERS, "valid" if i < 3 else "train") for i in range(20))
    shape = replace(SHAPE, entries=entries, weights=True)
    found = planned(rules(max_set_size=30), shape=shape, goal="active_learning")
    assert "initial_dataset" not in calls(found)
    assert found.train_size == 30


def test_durations_add_up_on_one_rank():
    settings = rules(max_set_size=30)
    labels = planned(settings, replace(INSTANT, label_s=3.0))
    assert labels.wall_s == pytest.approx(3.0 * labels.calls)

    # 50 epochs of one member on all labels, five a step: the last stage.
    training = planned(settings, replace(INSTANT, eager=replace(NO_TIME, train_step_s=2.0)))
    last = training.stages[-1]
    assert last.stage == "convergence"
    n_train = (10 + 25) // 5
    assert last.wall_s == pytest.approx(50 * n_train * 2.0, rel=0.15)

    md = planned(settings, replace(INSTANT, eager=replace(NO_TIME, md_step_s=0.5)))
    assert md.wall_s == pytest.approx(md.busy_s["molecular dynamics"])
    assert 0.5 * md.md_steps / 3 <= md.wall_s <= 0.5 * md.md_steps


def test_work_goes_on_side_by_side():
    settings = rules(max_set_size=60)
    eager = replace(NO_TIME, md_step_s=0.05, train_step_s=0.05)
    costs = replace(INSTANT, label_s=1.0, eager=eager)
    alone, two = (planned(settings, costs, split) for split in (ALONE, RankSplit(1, (1,))))
    assert two.wall_s < alone.wall_s
    busy = sum(two.busy_s.values())
    assert busy / 2 <= two.wall_s < busy
    slow = replace(costs, label_s=100.0)
    one, three = (planned(settings, slow, RankSplit(1, (1,) * n)) for n in (1, 3))
    assert one.reference_share > 0.9
    assert 1.5 < one.wall_s / three.wall_s <= 3.01


def test_more_ranks_of_a_group_count_where_the_engine_uses_them():
    settings = rules(max_set_size=20)
    costs = replace(INSTANT, label_s=10.0, label_ranks=4, parallel_engine=True)
    four, eight = (planned(settings, costs, RankSplit(1, (n,))) for n in (4, 8))
    assert four.wall_s == pytest.approx(2 * eight.wall_s)
    serial = replace(costs, parallel_engine=False)
    assert planned(settings, serial, RankSplit(1, (8,))).wall_s == pytest.approx(four.wall_s)


def test_compiled_code_is_used_when_it_is_there():
    settings = rules(max_set_size=60)
    eager = replace(NO_TIME, train_step_s=1.0)
    fast = replace(NO_TIME, train_step_s=0.1)
    slow = planned(settings, replace(INSTANT, eager=eager)).wall_s
    soon = planned(settings, replace(INSTANT, eager=eager, compiled=fast)).wall_s
    later = replace(INSTANT, eager=eager, compiled=fast, compiled_after_s=slow / 3)
    assert soon == pytest.approx(slow / 10, rel=0.05)
    assert slow / 3 < planned(settings, later).wall_s < slow


def test_ethanol_example():
    """The run of the example that this was calibrated with: 3 ranks, two of them for ML.

    It made 7, 20, 76 and 0 calls, in 0.3, 25, 208 and 39 s on two busy cores, and compiled code in
    its middle: 109 ms eager, 6 ms compiled for the step of two trajectories.
    """
    settings = simulated_rules(
        auto_atomic_energies=True,
        initial_method="foundation",
        ensemble_size=4,
        n_samples=5,
        skip_step_initial=30,
        max_initial_set_size=20,
        initial_intermediate_epochs=30,
        max_initial_epochs=30,
        num_trajectories=4,
        skip_step_mlff=30,
        uncertainty_window=40,
        threshold_factor=0.8,
        valid_ratio=0.1,
        max_epochs_worker=4,
        intermediate_epochs=4,
        max_set_size=72,
        max_MD_steps=20000,
        max_final_epochs=150,
        patience=100,
    )
    eager = Rates(0.1, 0.0, 0.05, 0.4, 0.05, 0.02)
    compiled = Rates(0.1, 0.0, 0.004, 0.4, 0.012, 0.01)
    costs = Costs(0.01, 1, False, eager, compiled, 100.0, 0.016)
    shape = WorkSizes(5, 10, 4, 4, 7)
    found = planned(settings, costs, RankSplit(2, (1,)), shape)
    real = {"atomic_energies": 7, "initial_dataset": 20, "active_learning": 76, "convergence": 0}
    for stage, count in calls(found).items():
        assert real[stage] / 2 <= count <= 2 * real[stage]
    assert 271 / 2 < found.wall_s < 271 * 2
    assert 5760 / 2 < found.md_steps < 5760 * 2


def test_times_are_said_in_units_that_fit():
    assert [rough_duration(s) for s in (5, 119, 300, 3 * 3600, 5 * 86400)] == [
        "5 s",
        "119 s",
        "5.0 min",
        "3.0 h",
        "5.0 days",
    ]
