"""How the committee is evaluated, by the settings."""

from __future__ import annotations

import pytest
import yaml

from fhi_al.ensemble.cueq import converts
from fhi_al.ensemble.faster_code import FasterCode, faster_code
from fhi_al.settings import load_inputs

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
    assert inputs.eager == (patience is None)
    assert not converts(inputs, "cpu")
    code = faster_code(inputs, "cpu")
    if patience is None:
        assert code == FasterCode()
        return
    made = code.forces, code.gradients
    assert tuple(one.patience_seconds for one in made) == patience
    assert [one.insist for one in made] == [evaluation == "fast"] * 2
    assert code.validation is not None
    # Others wait for the code of the first; on a GPU, training is left to MACE.
    peer = faster_code(inputs, "cpu", ranks=2, is_peer=True)
    assert (peer.forces.patience_seconds, peer.gradients.patience_seconds) == (400.0, 100.0)
    gpu = faster_code(inputs, "cuda:0")
    assert gpu.forces.patience_seconds == patience[0]
    assert gpu.gradients is None
    assert gpu.validation is None
