"""How an ML rank evaluates the committee, by the settings."""

from __future__ import annotations

import pytest
import yaml

from fhi_al.folder.run_folder import RunFolder
from fhi_al.settings import load_inputs
from fhi_al.workers.ml_worker import MlWorker

WATER = "atom 0 0 0.119 O\natom 0 0.763 -0.477 H\natom 0 -0.763 -0.477 H\n"


@pytest.mark.parametrize(
    ("evaluation", "deterministic", "patience"),
    [
        ("auto", False, (20.0, 5.0)),
        ("fast", False, (0.0, 0.0)),
        ("eager", False, None),
        ("auto", True, None),
        ("fast", True, None),
    ],
)
def test_evaluation(tmp_path, evaluation, deterministic, patience):
    mace = {"MISC": {"device": "cpu", "evaluation": evaluation}}
    al = {"REFERENCE": {"engine": "xtb"}, "MISC": {"deterministic": deterministic}}
    (tmp_path / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    (tmp_path / "active_learning_settings.yaml").write_text(yaml.safe_dump(al))
    (tmp_path / "geometry.in").write_text(WATER)
    inputs = load_inputs(tmp_path)
    warned = any("deterministic runs are eager" in warning for warning in inputs.warnings)
    assert warned == (deterministic and evaluation == "fast")
    worker = MlWorker(RunFolder(inputs, "digest"), "cpu")
    assert inputs.eager == (patience is None)
    if patience is None:
        return
    worker._prepare_code()
    made = worker._forces, worker._gradients
    assert tuple(one._patience for one in made) == patience
    assert [one._insist for one in made] == [evaluation == "fast"] * 2
    assert not worker._converts()
