"""The stop criteria that the user chooses."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from simulated_runs import STOPS, opened_with, simulate

from fhi_al.procedures.run import step
from fhi_al.procedures.stop import (
    defaults,
)
from fhi_al.settings.active_learning import ActiveLearning

STAGES = {
    "initial_stop_when": "initial_dataset",
    "stop_when": "active_learning",
    "converge_stop_when": "convergence",
}


@pytest.mark.parametrize("setting", STOPS)
def test_a_run_ends_by_the_criteria_that_were_chosen(setting):
    """Each alone, beside one that comes for sure; and whatever was not chosen ends nothing."""
    limits = {"max_initial_set_size": 12, "initial_target": 0.08, "max_initial_epochs": 40}
    limits |= {"max_set_size": 90, "desired_acc": 0.007, "max_MD_steps": 9000, "final_patience": 10}
    sure = [name for name, choice in STOPS[setting].items() if choice.sure]
    ended: dict[str, str] = {}
    for name in STOPS[setting]:
        *_, (state, _) = simulate(opened_with(**limits, **{setting: (name, *sure)}))
        ended[name] = state.stages[STAGES[setting]].reason or ""
    reasons = {name: re.sub(r"[\d.]+", "", reason) for name, reason in ended.items()}
    assert len(set(reasons.values())) == len(reasons), ended


@pytest.mark.parametrize("setting", STOPS)
def test_rules_of_earlier_journals_mean_the_defaults(setting):
    opened = opened_with()
    settings = {key: value for key, value in opened.settings.items() if key not in STOPS}
    state = step(None, replace(opened, settings=settings))
    assert getattr(state.rules, setting) == defaults(STOPS[setting])
    assert ActiveLearning.model_fields[setting].default == defaults(STOPS[setting])


def test_criteria_say_where_their_numbers_stand():
    counted = {title: set() for title in STOPS}
    for state, _ in simulate(opened_with(max_initial_set_size=12)):
        for title, registry in STOPS.items():
            for name, choice in registry.items():
                own = state.stages.get(STAGES[title])
                if own is not None and (count := choice.count(state, own)) is not None:
                    assert choice.counts
                    assert count.limit > 0 <= count.number
                    counted[title].add(name)
    for title, registry in STOPS.items():
        assert counted[title] == {name for name, choice in registry.items() if choice.counts}
