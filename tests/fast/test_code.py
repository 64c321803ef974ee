"""When faster code is used: right, faster, of the right size; and when it is not."""

import contextlib
import logging
import os
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from ase.neighborlist import neighbor_list
from code_stand_ins import Codes
from fast_inputs import batch_of, model_inputs
from mace.modules.symmetric_contraction import Contraction

from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.fast.compilation import Compilation
from fhi_al.fast.forces import EnergyAndForces, FastForces
from fhi_al.fast.padding import PaddedShape


def test_wrong_code_is_not_used(tiny_models, ethanol, caplog):
    caplog.set_level(logging.INFO)
    codes = Codes(cached=(2,), off_by=0.5)
    fast = FastForces(1, make=codes)
    predictor = CommitteePredictor(tiny_models, dtype=torch.float32, fast=fast)
    batch = batch_of(ethanol)
    expected = CommitteePredictor(tiny_models, dtype=torch.float32).predict(batch)
    for comparison in range(1, 5):
        for _ in range(2):
            out = predictor.predict(batch, predictor.neighbor_lists())
            assert predictor.path == "eager"
            np.testing.assert_array_equal(out.forces, expected.forces)
        assert caplog.text.count("eager for now, as compiled code differs by") == min(comparison, 2)
        assert caplog.text.count("it stays eager: compiled code differs by") == (comparison >= 3)
        predictor.load(tiny_models)
    assert codes.used


def test_code_that_rounding_made_look_wrong_is_compared_again(tiny_models, ethanol, caplog):
    codes = Codes(cached=(2,))
    fast = FastForces(1, insist=True, make=codes)
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64, fast=fast)
    batch = batch_of(ethanol)
    expected = CommitteePredictor(tiny_models, dtype=torch.float64).predict(batch)

    def path_after_training():
        predictor.load(tiny_models)
        for _ in range(2):
            out = predictor.predict(batch, predictor.neighbor_lists())
            np.testing.assert_allclose(out.forces, expected.forces, rtol=0, atol=1e-10)
        return predictor.path

    assert path_after_training() == "compiled"
    # More often than it may be wrong in a row.
    for _ in range(5):
        codes.off_by = 1e-3
        assert path_after_training() == "eager"
        codes.off_by = 0.0
        assert path_after_training() == "compiled"
    assert "it stays eager" not in caplog.text


def test_a_failed_compilation_is_said_once(tiny_models, ethanol, tmp_path, monkeypatch, caplog):
    """With a torch that can't be imported where it is compiled."""
    (tmp_path / "torch.py").write_text("raise ImportError('this is no torch')\n")
    there = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), there]))
    fast = FastForces(expected=1, patience_seconds=0.0)
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float32, fast=fast)
    batch = batch_of(ethanol)
    deadline = time.monotonic() + 60
    while not caplog.text and time.monotonic() < deadline:
        predictor.predict(batch, predictor.neighbor_lists())
        time.sleep(0.05)
    assert "it stays eager: compiling failed: ImportError: this is no torch" in caplog.text
    predictor.predict(batch, predictor.neighbor_lists())
    assert len(caplog.records) == 1


def compiling(folder: Path) -> list[Path]:
    """Processes that compile in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder) in (process / "cmdline").read_text():
                found.append(process)
    return found


def test_an_abandoned_compilation_leaves_nothing(tiny_models, ethanol, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float32)
    inputs = model_inputs(predictor, batch_of(ethanol))
    compilation = Compilation(
        EnergyAndForces(3.5, Contraction), tiny_models[0], inputs, PaddedShape.with_room(inputs, 1)
    )
    compilation.begin()
    (folder,) = (tmp_path / "temporary").iterdir()
    assert not compilation.finished()
    assert len(compiling(folder)) == 1
    del compilation
    assert not compiling(folder)
    assert not folder.exists()


def test_few_structures_use_code_of_their_size(tiny_models, ethanol):
    """Not before it is there, which is not before padding has cost enough."""
    codes = Codes(cached=(5,))
    # It is no faster than what it stands for.
    fast = FastForces(4, patience_seconds=0.0, insist=True, make=codes)
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float64, fast=fast)
    expected = CommitteePredictor(tiny_models[:1], dtype=torch.float64)
    for count in (4, 3, 2):
        batch = batch_of(*[ethanol] * count)
        codes.used.clear()
        for _ in range(4):
            out = predictor.predict(batch, predictor.neighbor_lists())
            np.testing.assert_allclose(
                out.forces, expected.predict(batch).forces, rtol=0, atol=1e-10
            )
        assert set(codes.used) == {5}
        # For two of four there is half a shape to be had; three are more than that.
        assert codes.begun == ([3] if count == 2 else [])
    codes.done = True
    codes.used.clear()
    for _ in range(4):
        out = predictor.predict(batch, predictor.neighbor_lists())
        np.testing.assert_allclose(out.forces, expected.predict(batch).forces, rtol=0, atol=1e-10)
    assert codes.used[-1] == 3


def test_one_member_is_compared_after_each_training(tiny_models, ethanol):
    """All of them before the first use."""
    models = deepcopy(tiny_models)
    fast = FastForces(1, insist=True, make=Codes(cached=(2,)))
    predictor = CommitteePredictor(models, dtype=torch.float64, fast=fast)
    asked: list[int] = []
    for member, model in enumerate(models):

        def note(_, arguments, member=member):
            if len(arguments[0]["head"]) == 1:  # code has padding
                asked.append(member)

        model.register_forward_pre_hook(note)
    for expected in ([0, 1, 2], [1], [2], [0], [1]):
        predictor.predict(batch_of(ethanol), predictor.neighbor_lists())
        predictor.predict(batch_of(ethanol), predictor.neighbor_lists())
        assert asked == expected
        asked.clear()
        predictor.load(models)


def test_large_structures_are_not_evaluated_together(tiny_models, ethanol, silicon):
    """They would not fit into a processor's cache."""
    expected = CommitteePredictor(tiny_models, dtype=torch.float64)
    crystal = silicon.repeat(6)
    n_edges = len(neighbor_list("i", crystal, 3.5))
    message = max(block.conv_tp.irreps_out.dim for block in tiny_models[0].interactions)
    alike = [ethanol] * 4, [crystal] * 4
    for systems, together in ((alike[0], 4), (alike[1], 1), ([crystal] * 2 + [ethanol] * 2, 2)):
        batch = batch_of(*systems)
        codes = Codes(cached=(2, 3, 5))
        fast = FastForces(4, insist=True, messages=1.5 * n_edges * message, make=codes)
        predictor = CommitteePredictor(tiny_models, dtype=torch.float64, fast=fast)
        for _ in range(2):
            out = predictor.predict(batch, predictor.neighbor_lists())
        assert set(codes.used) == {together + 1}
        np.testing.assert_allclose(out.forces, expected.predict(batch).forces, rtol=0, atol=1e-10)


def test_code_that_is_insisted_on_may_be_slow(tiny_models, ethanol, caplog):
    batch = batch_of(ethanol)
    for insist, path in ((True, "compiled"), (False, "eager")):
        fast = FastForces(1, insist=insist, make=Codes(cached=(2,), slow_s=0.3))
        predictor = CommitteePredictor(deepcopy(tiny_models), dtype=torch.float64, fast=fast)
        for _ in range(3):
            predictor.predict(batch)  # TorchScript compiles in the first ones
        assert predictor.path == "eager"
        predictor.predict(batch, predictor.neighbor_lists())
        assert predictor.path == path
    assert "it stays eager: compiled code takes" in caplog.text


def test_short_runs_and_deterministic_runs_compile_nothing(tiny_models, ethanol):
    batch = batch_of(ethanol)
    for patience, options in ((1e9, {}), (0.0, {"one_by_one": True})):
        codes = Codes()
        fast = FastForces(1, patience, make=codes)
        predictor = CommitteePredictor(tiny_models, dtype=torch.float64, fast=fast, **options)
        for _ in range(3):
            predictor.predict(batch, predictor.neighbor_lists())
        assert predictor.path == "eager"
        assert not codes.begun
    predictor = CommitteePredictor(
        tiny_models, dtype=torch.float64, fast=FastForces(1, 0.0, make=codes)
    )
    for _ in range(3):
        predictor.predict(batch, predictor.neighbor_lists())
    assert codes.begun == [2]  # so it is what others would have begun
