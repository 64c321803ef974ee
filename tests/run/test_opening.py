"""How the rules of a run follow from its settings."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fhi_al.procedures.rules import Rules
from fhi_al.run.opening import matching, rules_of
from fhi_al.settings import load_inputs
from fhi_al.settings.active_learning import ActiveLearning, Parallel

SAME = [
    field.name for field in dataclasses.fields(Rules) if field.name in ActiveLearning.model_fields
]
OTHERS = {
    "ensemble_size": 3,
    "max_initial_set_size": 40,
    "max_failed_fraction": 0.3,
    "valid_ratio": 0.3,
    "converge_al": False,
    "converge_best": False,
    "converge_initial": True,
    "initial_stop_when": ("epochs",),
    "stop_when": ("trajectories", "accuracy"),
    "converge_stop_when": ("epochs",),
}


@pytest.mark.parametrize("name", SAME)
def test_a_rule_with_the_name_of_a_setting_is_that_setting(tmp_path, name):
    default = ActiveLearning.model_fields[name].default
    value = OTHERS.get(name, default * 2 if isinstance(default, (int, float)) else default)
    (tmp_path / "geometry.in").write_text("atom 0 0 0 O\natom 0 0.76 -0.6 H\natom 0 -0.76 -0.6 H\n")
    (tmp_path / "mace_settings.yaml").write_text("")
    (tmp_path / "active_learning_settings.yaml").write_text(
        "REFERENCE: {engine: xtb}\nMD: {temperature: 300}\n"
        "ACTIVE_LEARNING: {initial_sampling: perturb, "
        f"{name}: {json.dumps(value)}}}\n"
    )
    assert getattr(rules_of(load_inputs(tmp_path)), name) == value


@dataclasses.dataclass
class Few:
    ml_ranks: int
    two: int


def test_no_rule_is_forgotten_and_none_invented():
    section = Parallel(ml_ranks=3)
    assert matching(Few, section, {"two": 2}) == {"ml_ranks": 3, "two": 2}
    with pytest.raises(TypeError, match="nothing says what two of Few is"):
        matching(Few, section, {})
    with pytest.raises(TypeError, match="Few has no four"):
        matching(Few, section, {"two": 2, "four": 4})
