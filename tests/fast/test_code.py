"""When faster code is used: right, faster, of the right size; and when it is not."""

import itertools
import logging
import os
import time
from copy import deepcopy

import numpy as np
import torch
from ase.neighborlist import neighbor_list
from code_stand_ins import RightCode, used
from fast_inputs import batch_of, model_inputs
from mace.modules.symmetric_contraction import Contraction

from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.fast import code as fast_code
from fhi_al.fast import compilation
from fhi_al.fast import forces as fast_forces
from fhi_al.fast.compilation import Compilation
from fhi_al.fast.forces import EnergyAndForces, FastForces
from fhi_al.fast.padding import PaddedShape


class WrongCode:
    """Stands for compiled code that gives wrong forces."""

    kind = "compiled"

    def __init__(self, *args):
        self.shape = PaddedShape(4, 30, 900)
        self.dtype = torch.float32

    def in_cache(self):
        return True

    def load(self):
        return lambda *arguments: (torch.zeros(4), torch.full((30, 3), 0.5))


def test_wrong_code_is_not_used(tiny_models, ethanol, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(fast_code, "Compilation", WrongCode)
    predictor = CommitteePredictor(tiny_models, dtype=torch.float32, fast=FastForces(1))
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


def test_code_that_rounding_made_look_wrong_is_compared_again(
    tiny_models, ethanol, monkeypatch, caplog
):
    monkeypatch.setattr(fast_code, "Compilation", RightCode)
    monkeypatch.setattr(RightCode, "cached", (2,))
    fast = FastForces(1)
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64, fast=fast)
    batch = batch_of(ethanol)

    def path_after_training():
        predictor.load(tiny_models)
        predictor.predict(batch, predictor.neighbor_lists())
        return predictor.path

    monkeypatch.setattr(fast_code.CompiledFunction, "judge", lambda self, *_, **__: trust(self))
    assert path_after_training() == "compiled"
    monkeypatch.undo()
    (code,) = fast._codes.values()
    for _ in range(fast_code._MAX_FAILURES):
        code.judge(1.0, 1.0, "eV/Å", eager=1.0, fast=0.1)
        assert not code.trust.given
        code.judge(1e-12, 1.0, "eV/Å", eager=1.0, fast=0.1)
        assert code.trust.given
    assert not code.failed
    assert "it stays eager" not in caplog.text
    assert path_after_training() == "compiled"


def test_a_failed_compilation_is_said_once(tiny_models, ethanol, monkeypatch, caplog):
    """With a compiler that isn't one."""
    monkeypatch.setattr(compilation, "__name__", "fhi_al.no_such_module")
    fast = FastForces(expected=1, patience_seconds=0.0)
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float32, fast=fast)
    batch = batch_of(ethanol)
    deadline = time.monotonic() + 60
    while not caplog.text and time.monotonic() < deadline:
        predictor.predict(batch, predictor.neighbor_lists())
        time.sleep(0.05)
    assert "it stays eager: compiling failed: " in caplog.text
    assert "No module named fhi_al.no_such_module" in caplog.text
    predictor.predict(batch, predictor.neighbor_lists())
    assert len(caplog.records) == 1


def test_an_abandoned_compilation_leaves_nothing(tiny_models, ethanol):
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float32)
    inputs = model_inputs(predictor, batch_of(ethanol))
    compilation = Compilation(
        EnergyAndForces(3.5, Contraction), tiny_models[0], inputs, PaddedShape.with_room(inputs, 1)
    )
    compilation.begin()
    process, folder = compilation._process, compilation._folder
    assert process.poll() is None
    del compilation
    assert process.poll() is not None
    assert not folder.exists()
    assert not os.path.exists(f"/proc/{process.pid}")


def trust(code):
    code.trust.compared(True)


def test_few_structures_use_code_of_their_size(tiny_models, ethanol, monkeypatch):
    """Not before it is there, which is not before padding has cost enough."""
    monkeypatch.setattr(fast_code, "Compilation", RightCode)
    monkeypatch.setattr(RightCode, "cached", (5,))
    begun = []
    monkeypatch.setattr(RightCode, "begin", lambda self: begun.append(self.shape), raising=False)
    monkeypatch.setattr(RightCode, "finished", lambda self: False, raising=False)
    # It is no faster than what it stands for.
    monkeypatch.setattr(fast_code.CompiledFunction, "judge", lambda self, *_, **__: trust(self))
    fast = FastForces(4, patience_seconds=0.0)
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float64, fast=fast)
    expected = CommitteePredictor(tiny_models[:1], dtype=torch.float64)
    for count, capacities in ((4, {5}), (3, {5}), (2, {5})):
        batch = batch_of(*[ethanol] * count)
        used.clear()
        for _ in range(4):
            out = predictor.predict(batch, predictor.neighbor_lists())
            np.testing.assert_allclose(
                out.forces, expected.predict(batch).forces, rtol=0, atol=1e-10
            )
        assert set(used) == capacities
        # For two of four there is half a shape to be had; three are more than that.
        assert [shape.structures for shape in begun] == ([3] if count == 2 else [])
    monkeypatch.setattr(RightCode, "finished", lambda self: True)
    used.clear()
    for _ in range(4):
        out = predictor.predict(batch, predictor.neighbor_lists())
        np.testing.assert_allclose(out.forces, expected.predict(batch).forces, rtol=0, atol=1e-10)
    assert used[-1] == 3


def test_one_member_is_compared_after_each_training(tiny_models, ethanol, monkeypatch):
    """All of them before the first use."""
    monkeypatch.setattr(fast_code, "Compilation", RightCode)
    monkeypatch.setattr(RightCode, "cached", (2,))
    monkeypatch.setattr(fast_code.CompiledFunction, "judge", lambda self, *_, **__: trust(self))
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64, fast=FastForces(1))
    asked: list[list[int]] = []
    ask = predictor._outputs
    monkeypatch.setattr(
        predictor,
        "_outputs",
        lambda part, members, virials: asked.append(list(members)) or ask(part, members, virials),
    )
    for _ in range(5):
        predictor.predict(batch_of(ethanol), predictor.neighbor_lists())
        predictor.predict(batch_of(ethanol), predictor.neighbor_lists())
        predictor.load(tiny_models)
    assert asked == [[0, 1, 2], [1], [2], [0], [1]]


def test_large_structures_are_not_evaluated_together(tiny_models, ethanol, silicon, monkeypatch):
    """They would not fit into a processor's cache."""
    monkeypatch.setattr(fast_code, "Compilation", RightCode)
    monkeypatch.setattr(RightCode, "cached", (2, 3, 5))
    monkeypatch.setattr(fast_code.CompiledFunction, "judge", lambda self, *_, **__: trust(self))
    expected = CommitteePredictor(tiny_models, dtype=torch.float64)
    crystal = silicon.repeat(6)
    n_edges = len(neighbor_list("i", crystal, 3.5))
    message = max(block.conv_tp.irreps_out.dim for block in tiny_models[0].interactions)
    monkeypatch.setattr("fhi_al.fast.forces._MESSAGES", 1.5 * n_edges * message)
    alike = [ethanol] * 4, [crystal] * 4
    for systems, together in ((alike[0], 4), (alike[1], 1), ([crystal] * 2 + [ethanol] * 2, 2)):
        batch = batch_of(*systems)
        fast = FastForces(4)
        predictor = CommitteePredictor(tiny_models, dtype=torch.float64, fast=fast)
        used.clear()
        for _ in range(2):
            out = predictor.predict(batch, predictor.neighbor_lists())
        assert set(used) == {together + 1}
        np.testing.assert_allclose(out.forces, expected.predict(batch).forces, rtol=0, atol=1e-10)


def test_code_that_is_insisted_on_may_be_slow(tiny_models, ethanol, monkeypatch, caplog):
    monkeypatch.setattr(fast_code, "Compilation", RightCode)
    monkeypatch.setattr(RightCode, "cached", (2,))
    # Whatever is timed takes longer than what was timed before.
    ticks = (float(number**2) for number in itertools.count())
    monkeypatch.setattr(fast_forces, "device_clock", lambda _: next(ticks))
    batch = batch_of(ethanol)
    for insist, path in ((True, "compiled"), (False, "eager")):
        fast = FastForces(1, insist=insist)
        predictor = CommitteePredictor(deepcopy(tiny_models), dtype=torch.float64, fast=fast)
        predictor.predict(batch, predictor.neighbor_lists())
        assert predictor.path == path
    assert "it stays eager: compiled code takes" in caplog.text


def test_short_runs_and_deterministic_runs_compile_nothing(tiny_models, ethanol, cache):
    batch = batch_of(ethanol)
    for options in ({}, {"one_by_one": True}):
        fast = FastForces(1, patience_seconds=1e9 if not options else 0.0)
        predictor = CommitteePredictor(tiny_models, dtype=torch.float64, fast=fast, **options)
        for _ in range(3):
            predictor.predict(batch, predictor.neighbor_lists())
        assert predictor.path == "eager"
        assert all(code._compilation is None for code in fast._codes.values())
    assert not cache.exists()
