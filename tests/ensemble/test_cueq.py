"""Models that compute by cuEquivariance, against MACE's own; on a CPU that is slow, but works."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import Structure
from fhi_al.ensemble.cueq import CuEquivariance
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.fast.forces import FastForces


@pytest.fixture
def batch(ethanol, silicon) -> Batch:
    return Batch.from_structures([Structure.from_atoms(a) for a in (ethanol, silicon)])


class Counted(CuEquivariance):
    """Says how often it was asked, and can spoil what it makes."""

    def __init__(self, error: float = 0.0, *, refuses: bool = False) -> None:
        super().__init__()
        self.asked = 0
        self._error = error
        self._refuses = refuses

    def twins(self, models):
        self.asked += 1
        twins = super().twins(models)
        for twin in twins:
            twin.scale_shift.scale += self._error
            if self._refuses:
                twin.register_forward_pre_hook(refuse)
        return twins


def refuse(*_):
    raise ValueError("no kernel for this GPU")


@contextmanager
def computing() -> Iterator[set[str]]:
    """The libraries whose modules compute meanwhile."""
    libraries: set[str] = set()
    handle = register_module_forward_pre_hook(
        lambda module, _: libraries.add(type(module).__module__.split(".")[0])
    )
    try:
        yield libraries
    finally:
        handle.remove()


def test_twins_are_equal_and_follow_the_weights(tiny_models, batch):
    cueq = Counted()
    predictor = CommitteePredictor(deepcopy(tiny_models[:2]), dtype=torch.float64, cueq=cueq)
    reference = CommitteePredictor(tiny_models[:2], dtype=torch.float64)
    for models in (tiny_models[:2], [tiny_models[2], tiny_models[0]]):
        predictor.load(deepcopy(models))
        reference.load(deepcopy(models))
        predictor.predict(batch)  # compared with MACE's own
        with computing() as libraries:
            out = predictor.predict(batch, stress=True)
        assert "cuequivariance_torch" in libraries
        with computing() as libraries:
            expected = reference.predict(batch, stress=True)
        assert "cuequivariance_torch" not in libraries
        np.testing.assert_allclose(out.energies, expected.energies, atol=1e-10)
        np.testing.assert_allclose(out.forces, expected.forces, atol=1e-10)
        np.testing.assert_allclose(out.stress, expected.stress, atol=1e-12)
        assert float((out.forces[0] - out.forces[1]).abs().max()) > 0.01
    assert cueq.asked == 3


def test_wrong_twins_are_not_used(tiny_models, batch, caplog):
    cueq = Counted(error=0.01)
    predictor = CommitteePredictor(
        deepcopy(tiny_models), dtype=torch.float64, fast=FastForces(2), cueq=cueq
    )
    expected = CommitteePredictor(tiny_models, dtype=torch.float64).predict(batch)
    for _ in range(2):
        out = predictor.predict(batch, predictor.neighbor_lists())
        np.testing.assert_allclose(out.forces, expected.forces, atol=1e-10)
    predictor.load(deepcopy(tiny_models))
    assert cueq.asked == 1
    assert caplog.text.count("cuEquivariance is not used: its forces differ by") == 1


def test_twins_that_do_not_run_are_not_used(tiny_models, batch, caplog):
    cueq = Counted(refuses=True)
    predictor = CommitteePredictor(deepcopy(tiny_models), dtype=torch.float64, cueq=cueq)
    expected = CommitteePredictor(tiny_models, dtype=torch.float64).predict(batch)
    np.testing.assert_allclose(predictor.predict(batch).forces, expected.forces, atol=1e-10)
    assert "cuEquivariance is not used: ValueError: no kernel for this GPU" in caplog.text


def test_a_structure_without_finite_forces_proves_nothing(tiny_models, batch, caplog):
    predictor = CommitteePredictor(
        deepcopy(tiny_models), dtype=torch.float64, cueq=Counted(error=0.01)
    )
    broken = deepcopy(batch)
    broken.positions[1] = broken.positions[0]
    assert not predictor.predict(broken).forces.isfinite().all()
    assert "cuEquivariance" not in caplog.text
    predictor.predict(batch)
    assert "its forces differ by" in caplog.text


def test_models_that_mace_cannot_convert_stay_as_they_are(tiny_models, batch, caplog):
    caplog.set_level(logging.INFO, "fhi_al")
    models = deepcopy(tiny_models[:1])
    for product in models[0].products:
        del product.symmetric_contractions  # where the converter looks for the order
    predictor = CommitteePredictor(models, dtype=torch.float64, cueq=CuEquivariance())
    models[0].register_forward_pre_hook(refuse)
    with pytest.raises(ValueError, match="no kernel"):
        predictor.predict(batch)
    assert "cuEquivariance is not used: AttributeError" in caplog.text
