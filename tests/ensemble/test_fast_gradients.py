"""Compiled training: the steps of mace-torch, or not taken."""

import logging
import time

import numpy as np
import pytest
import torch
from code_stand_ins import Codes
from ensemble_runs import crystals, effect, finish, molecules, run, shared_entries

from fhi_al.ensemble.data import collate
from fhi_al.ensemble.fast_gradients import FastGradients, LossAndGradient
from fhi_al.fast.padding import PaddedShape
from fhi_al.fast.tracing import tensors_of, trace
from fhi_al.handlers.train import train


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FHI_AL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("labels", "loss"),
    [
        (molecules, "weighted"),
        (molecules, "forces_only"),
        (crystals, "stress"),
        (crystals, "virials"),
    ],
)
def test_the_graph_has_maces_loss_and_gradients(make_folder, labels, loss):
    """Of full batches and smaller ones; for a member that it wasn't traced for."""
    labels = labels()
    weights = {"forces_weight": 30.0, "config_type_weights": {"odd": 3.0}}
    folder = make_folder({"TRAINING": {"loss": loss, **weights}}, labels=labels)
    committee, _ = run(folder, effect(shared_entries(labels)))
    graphs = committee.graphs(folder).of(label.key for label in labels)
    graphs[0].weight *= 2.5
    first, member = committee.members
    function = LossAndGradient(float(first.model.r_max), type(first.loss))
    shape = PaddedShape.of_largest(
        [len(graph.positions) for graph in graphs],
        [graph.edge_index.shape[1] for graph in graphs],
        3,
    )
    example = function.inputs(graphs[:3], first.loss)
    graph, _ = trace(function, first.model, function.pad(example, shape))
    for together in (graphs[:3], graphs[3:5], graphs[:1]):
        batch = collate(together)
        member.optimizer.zero_grad()
        prediction = member.model(
            batch.to_dict(),
            training=True,
            compute_virials=loss == "virials",
            compute_stress=loss == "stress",
        )
        expected = member.loss(pred=prediction, ref=batch)
        expected.backward()
        inputs = function.inputs(together, member.loss)
        with torch.no_grad():
            value, *gradients = graph(
                *tensors_of(member.model), *function.pad(inputs, shape).values()
            )
        np.testing.assert_allclose(value, expected.detach(), rtol=1e-12)
        exact = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in member.model.parameters()
        ]
        largest = max(float(gradient.abs().max()) for gradient in exact)
        assert largest > 0
        for ours, theirs in zip(gradients, exact, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-12 * largest)


def test_compiled_training_is_eager_training(make_folder, caplog):
    """Compiled in the background, checked, used; for batches of all sizes, and clipped."""
    caplog.set_level("INFO")
    labels = molecules()
    entries = shared_entries(labels)
    # As small as a model can be: this compiles for half a minute of processor time.
    small = {"num_interactions": 1, "correlation": 1}
    folder = make_folder({"ARCHITECTURE": small, "TRAINING": {"clip_grad": 1.0}}, labels=labels)
    fast = FastGradients(patience_seconds=0.0)
    start = effect(entries, epochs=1, members=(0,))
    finish(train(start, folder, None, "cpu", fast=fast))
    deadline = time.monotonic() + 400
    again = effect(entries, id="train-1", weights="train-0", epochs=1, members=(0,))
    while fast.path == "eager" and time.monotonic() < deadline:
        finish(train(again, folder, None, "cpu", fast=fast))
        time.sleep(0.2)
    assert fast.path == "compiled"
    assert "the gradients of training, compiled: " in caplog.text

    further = effect(entries, id="train-2", weights="train-0", epochs=3)
    compiled, seen = finish(train(further, folder, None, "cpu", fast=fast))
    eager, expected = run(folder, further)
    assert fast.path == "compiled"
    for ours, theirs in zip(compiled.members, eager.members, strict=True):
        for a, b in zip(ours.averaged(), theirs.averaged(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-8)
    np.testing.assert_allclose(
        [state.loss for state in seen.members],
        [state.loss for state in expected.members],
        rtol=1e-8,
    )


def test_wrong_code_is_not_used(make_folder, caplog):
    caplog.set_level(logging.INFO)
    labels = molecules()
    folder = make_folder(labels=labels)
    asked = effect(shared_entries(labels), epochs=2)
    codes = Codes(cached=(4,), off_by=0.5)
    fast = FastGradients(make=codes)
    ours, _ = finish(train(asked, folder, None, "cpu", fast=fast))
    theirs, _ = run(folder, asked)
    assert codes.used
    assert caplog.text.count("eager for now, as compiled code differs by") == 1
    assert fast.path == "eager"
    for a, b in zip(ours.members[0].averaged(), theirs.members[0].averaged(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", ["huber", "weighted"])
def test_losses_that_are_not_linear_in_their_weights_stay_eager(make_folder, loss):
    labels = molecules()
    folder = make_folder({"TRAINING": {"loss": loss}}, labels=labels)
    codes = Codes()
    fast = FastGradients(patience_seconds=0.0, make=codes)
    finish(train(effect(shared_entries(labels)), folder, None, "cpu", fast=fast))
    assert fast.path == "eager"
    assert bool(codes.begun) == (loss == "weighted")
    assert fast.awaits_code == (loss == "weighted")
