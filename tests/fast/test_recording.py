"""Recordings for a GPU: all but the CUDA graph is tested without one, the graph where there is."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from mace.modules.symmetric_contraction import Contraction

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import Structure
from fhi_al.ensemble.cueq import CuEquivariance
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.fast import recording
from fhi_al.fast.forces import EnergyAndForces, FastForces
from fhi_al.fast.padding import PaddedShape
from fhi_al.fast.recording import Recording
from fhi_al.fast.tracing import tensors_of


def batch_of(*atoms, device="cpu") -> Batch:
    return Batch.from_structures([Structure.from_atoms(a) for a in atoms], device)


def computed_again(compute):
    """Stands for a CUDA graph: reads and writes the same memory each time."""
    results = compute()

    def replay() -> None:
        for result, value in zip(results, compute(), strict=True):
            result.copy_(value)

    return replay, results


@pytest.mark.parametrize(("virials", "cueq"), [(False, False), (True, False), (False, True)])
def test_a_recording_takes_weights_and_inputs(
    tiny_models, ethanol, silicon, monkeypatch, virials, cueq
):
    monkeypatch.setattr(recording, "record", computed_again)
    models = [deepcopy(model) for model in tiny_models[:2]]
    # Members have seen different data.
    models[1].interactions[0].avg_num_neighbors *= 1.5
    if cueq:
        models = CuEquivariance().twins(models)
    predictor = CommitteePredictor(models, dtype=torch.float64)
    function = EnergyAndForces(predictor.cutoff, Contraction, virials)
    first, second = (
        predictor.inputs(batch, predictor.neighbor_lists().edges(batch))
        for batch in (batch_of(ethanol, silicon), batch_of(silicon))
    )
    shape = PaddedShape.with_room(first, 2)
    play = Recording(function, models[0], first, shape).load()
    results = {}
    for inputs in (first, second):
        for model in models:
            results[id(inputs), id(model)] = play(
                *tensors_of(model), *function.pad(inputs, shape).values()
            )
    for inputs, batch in ((first, batch_of(ethanol, silicon)), (second, batch_of(silicon))):
        expected = predictor.predict(batch, stress=True)
        volumes = torch.linalg.det(batch.cells).abs()
        for member, model in enumerate(models):
            energies, forces, *strain = results[id(inputs), id(model)]
            np.testing.assert_allclose(
                energies[: len(batch)], expected.energies[member], atol=1e-10
            )
            atoms = len(batch.positions)
            np.testing.assert_allclose(forces[:atoms], expected.forces[member], atol=1e-10)
            if virials:
                stress = -strain[0][len(batch) - 1] / volumes[-1]
                np.testing.assert_allclose(stress, expected.stress[member, -1], atol=1e-12)
    assert (
        models[0].interactions[0].avg_num_neighbors != models[1].interactions[0].avg_num_neighbors
    )


def test_what_cannot_be_recorded_is_a_runtime_error(tiny_models, ethanol, monkeypatch):
    def refuse(compute):
        raise TypeError("not allowed while capturing")

    monkeypatch.setattr(recording, "record", refuse)
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    batch = batch_of(ethanol)
    inputs = predictor.inputs(batch, predictor.neighbor_lists().edges(batch))
    one = Recording(
        EnergyAndForces(predictor.cutoff, Contraction),
        tiny_models[0],
        inputs,
        PaddedShape.with_room(inputs, 1),
    )
    with pytest.raises(RuntimeError, match="recording failed: TypeError: not allowed"):
        one.load()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("stress", [False, True])
def test_on_a_gpu_forces_are_those_of_a_cpu(tiny_models, ethanol, silicon, stress):
    expected = CommitteePredictor(deepcopy(tiny_models), dtype=torch.float64)
    predictor = CommitteePredictor(
        deepcopy(tiny_models), "cuda", torch.float64, fast=FastForces(3, insist=True)
    )
    lists = predictor.neighbor_lists()
    for step in range(3):
        for atoms in (ethanol, silicon):
            atoms.rattle(0.01, seed=step)
        systems = [ethanol, silicon, silicon]
        out = predictor.predict(batch_of(*systems, device="cuda"), lists, stress=stress)
        exact = expected.predict(batch_of(*systems), stress=stress)
        np.testing.assert_allclose(out.forces.cpu(), exact.forces, atol=1e-9)
        np.testing.assert_allclose(out.energies.cpu(), exact.energies, atol=1e-9)
        if stress:
            np.testing.assert_allclose(out.stress.cpu(), exact.stress, atol=1e-11)
    assert predictor.path == "CUDA graph"
    # After training, the same recording has other weights.
    predictor.load(deepcopy(tiny_models[::-1]))
    expected.load(deepcopy(tiny_models[::-1]))
    out = predictor.predict(batch_of(*systems, device="cuda"), lists)
    np.testing.assert_allclose(
        out.forces.cpu(), expected.predict(batch_of(*systems)).forces, atol=1e-9
    )
