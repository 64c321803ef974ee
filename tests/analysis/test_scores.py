"""Errors and calibration, against numbers that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fhi_al.analysis.predictions import (
    Predictions,
    joined_predictions,
    load_predictions,
    save_predictions,
)
from fhi_al.analysis.scores import Score, all_scores, calibration, deviations
from fhi_al.errors import JournalError


def water_and_hydrogen() -> Predictions:
    """Two models for H2O (with a stress) and H2; the first is right about all but one number."""
    forces = np.zeros((2, 5, 3))
    forces[0, 0, 0] = 0.3  # on O
    forces[1, 3:, 2] = [-0.6, 0.6]  # on both atoms of H2
    stress = np.full((2, 2, 6), np.nan)
    stress[:, 0] = [[0.0] * 6, [0.01] * 6]
    true_stress = np.full((2, 6), np.nan)
    true_stress[0] = 0.0
    return Predictions(
        members=np.array([0, 1]),
        numbers=np.array([8, 1, 1, 1, 1]),
        ptr=np.array([0, 3, 5]),
        true_energies=np.array([-76.0, -1.0]),
        true_forces=np.zeros((5, 3)),
        true_stress=true_stress,
        energies=np.array([[-76.0, -1.0], [-75.7, -1.2]]),
        forces=forces,
        stress=stress,
    )


def test_scores_of_models_committee_elements_and_systems():
    found = all_scores(water_and_hydrogen(), ["a", "b"])
    names = [(s.who, s.species, s.system, s.n_structures) for s in found]
    assert names == [
        ("a", "", "", 2),
        ("b", "", "", 2),
        ("committee", "", "", 2),
        ("committee", "H", "", 2),
        ("committee", "O", "", 1),
        ("committee", "", "H2O", 1),
        ("committee", "", "H2", 1),
    ]
    a, b, mean, hydrogen, oxygen, water, h2 = found
    assert a.energy == Score(2, 0.0, 0.0, 0.0)
    assert a.forces.mae == pytest.approx(0.3 / 15)
    assert a.forces.rmse == pytest.approx(0.3 / np.sqrt(15))
    assert a.forces.max == pytest.approx(0.3)
    # 0.3 eV on three atoms, 0.2 eV on two.
    assert b.energy.mae == pytest.approx(0.1)
    assert (b.stress.n, b.stress.mae) == (6, pytest.approx(0.01))
    assert mean.energy.mae == pytest.approx(0.05)
    assert mean.stress.max == pytest.approx(0.005)
    assert hydrogen.forces.mae == pytest.approx(0.6 / 12)
    assert hydrogen.energy is None
    assert oxygen.forces.mae == pytest.approx(0.15 / 3)
    assert water.forces.mae == pytest.approx(0.15 / 9)
    assert h2.forces.rmse == pytest.approx(np.sqrt(2 * 0.3**2 / 6))
    assert h2.stress is None


def test_chosen_members_are_averaged():
    off = deviations(water_and_hydrogen(), [1])
    np.testing.assert_allclose(off.energies, [0.1, -0.1])


def test_a_calibrated_committee_is_told_from_one_that_is_too_sure():
    chance = np.random.default_rng(3)
    n_members, n_atoms = 400, 3000
    width = chance.uniform(0.05, 0.5, size=(n_atoms, 1))
    # The truth is one more draw from what the members are drawn from.
    members = width * chance.normal(size=(n_members, n_atoms, 3))
    truth = width * chance.normal(size=(n_atoms, 3))
    predictions = replace(
        water_and_hydrogen(),
        numbers=np.ones(n_atoms, dtype=int),
        ptr=np.array([0, 1000, n_atoms]),
        true_forces=truth,
        forces=members,
        energies=np.zeros((n_members, 2)),
        stress=np.full((n_members, 2, 6), np.nan),
    )
    fair = calibration(predictions)
    assert fair.ratio == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(fair.bin_error / fair.bin_spread, 1.0, atol=0.15)
    assert fair.rank_correlation > 0.5
    assert (np.diff(fair.bin_spread) > 0).all()
    sure = calibration(replace(predictions, forces=members / 4))
    assert sure.ratio == pytest.approx(4 * fair.ratio, rel=0.05)
    assert calibration(replace(predictions, forces=members[:1])) is None


def test_predictions_survive_the_disk(tmp_path):
    path = tmp_path / "predictions.h5"
    kept = water_and_hydrogen()
    save_predictions(path, {"validation": kept}, "run", "train-3")
    found = load_predictions(path, "run", "train-3")["validation"]
    np.testing.assert_array_equal(found.stress, kept.stress)
    assert found.formulas == ["H2O", "H2"]
    # Those of other weights, or of another run, are none.
    assert load_predictions(path, "run", "train-4") is None
    assert load_predictions(path, "other", "train-3") is None
    assert load_predictions(tmp_path / "none.h5", "run", "train-3") is None
    path.write_bytes(b"no HDF5 file")
    with pytest.raises(JournalError, match=r"predictions\.h5 can't be read"):
        load_predictions(path, "run", "train-3")


def test_joined_sets_are_one_set():
    one = water_and_hydrogen()
    both = joined_predictions([one, one])
    assert both.formulas == ["H2O", "H2"] * 2
    assert both.ptr.tolist() == [0, 3, 5, 8, 10]
    assert both.forces.shape == (2, 10, 3)
    single, double = (all_scores(some, ["a", "b"])[2] for some in (one, both))
    assert double.forces.mae == pytest.approx(single.forces.mae)
