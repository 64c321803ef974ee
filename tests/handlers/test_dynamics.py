"""The work of molecular dynamics as the controller asks for it, with real settings and files."""

import dataclasses

import numpy as np
import pytest
import torch
from md_forces import Bomb
from md_walkers import FACTORS, QUIET, effect, finish

from fhi_al.atoms.structure import Label, structure_key
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.handlers import dynamics as engine
from fhi_al.handlers.beginnings import start_learning
from fhi_al.md.walkers_file import load_walkers
from fhi_al.record import effects
from fhi_al.record.codec import from_json, to_json


def test_walkers_move_to_their_end(folder, springs):
    run = folder()
    event, count = finish(
        engine.advance(effect(**QUIET), run, springs(run.inputs.structure, members=FACTORS))
    )
    assert count == 20
    assert event.steps == (20, 20, 20)
    assert event.walkers == "advance-1"
    assert event.path == "springs"
    assert [check.steps for check in event.checks] == [(n, n, n) for n in (4, 8, 12, 16, 20)]
    assert not event.candidates
    assert from_json(to_json(event)) == event
    walkers = load_walkers(run.walkers("advance-1"))
    assert walkers.steps.tolist() == [20, 20, 20]


def test_a_crossing_ends_it_and_stores_what_was_predicted(folder, springs):
    """The threshold follows from the checks that the event carries."""
    run = folder(uncertainty_warmup=7, threshold_factor=1.2)
    driver = springs(run.inputs.structure, members=FACTORS)
    event, _ = finish(engine.advance(effect(steps_left=(4000,) * 3), run, driver))
    values = [u for check in event.checks for u in check.uncertainties]
    expected, seen = [], []
    for check in event.checks:
        for trajectory, u in zip(check.trajectories, check.uncertainties, strict=True):
            seen.append(u)
            theta = 1.2 * sum(seen[-400:]) / len(seen[-400:])
            if len(seen) >= 7 and u > theta:
                expected.append((trajectory, check.steps[0], u, theta))
    assert len(values) > 7
    assert expected
    assert [
        (c.trajectory, c.step, c.uncertainty, pytest.approx(c.threshold)) for c in event.candidates
    ] == expected
    assert event.checks[-1].steps[0] == event.candidates[0].step

    candidate = event.candidates[0]
    forces = run.structures.get(candidate.key)[1]
    walkers = load_walkers(run.walkers(event.walkers))
    # The walker stays where it crossed.
    assert structure_key(walkers.structure(candidate.trajectory), "digest") == candidate.key
    predicted = driver.predict(walkers.batch).forces[:, walkers.batch.atoms(candidate.trajectory)]
    np.testing.assert_allclose(forces, predicted.mean(0), atol=1e-12)
    deviations = predicted - predicted.mean(0)
    spread = torch.sqrt((deviations**2).sum((0, 2)) / (3 * len(FACTORS))).max().item()
    assert candidate.uncertainty == pytest.approx(spread)


def test_the_history_goes_on_from_the_effect(folder, springs):
    run = folder(uncertainty_warmup=10)
    driver = springs(run.inputs.structure, members=FACTORS)
    event, _ = finish(
        engine.advance(effect(histories=(effects.History("", (1e-9,) * 9, 9),)), run, driver)
    )
    assert len(event.checks) == 1
    assert event.candidates[0].threshold < event.candidates[0].uncertainty
    event, _ = finish(
        engine.advance(effect(histories=(effects.History("", (1e9,) * 9, 9),)), run, driver)
    )
    assert len(event.checks) == 5
    assert not event.candidates


def test_overdue_and_audits(folder, springs):
    run = folder()
    driver = springs(run.inputs.structure, members=FACTORS)
    quiet = {**QUIET, "steps_left": (40,) * 3}
    event, _ = finish(
        engine.advance(effect(audits_due=(5, -1, 12), **quiet, id="advance-2"), run, driver)
    )
    assert [(c.trajectory, c.step, c.reason) for c in event.candidates] == [
        (0, 8, "audit"),
        (2, 12, "audit"),
        (0, 20, "audit"),
        (2, 24, "audit"),
        (0, 32, "audit"),
        (2, 36, "audit"),
    ]
    event, _ = finish(engine.advance(effect(checks_left=(9, 3, 4), **quiet), run, driver))
    assert [(c.trajectory, c.step, c.reason) for c in event.candidates] == [(1, 12, "overdue")]
    assert event.steps == (12, 12, 12)


def test_only_the_named_walkers_move(folder, springs):
    run = folder()
    driver = springs(run.inputs.structure, members=FACTORS)
    finish(engine.advance(effect(**QUIET), run, driver))
    before = load_walkers(run.walkers("advance-1"))
    event, count = finish(
        engine.advance(
            effect(
                id="advance-2",
                walkers="advance-1",
                trajectories=(2, 0),
                steps_left=(6, 30),
                **QUIET,
            ),
            run,
            driver,
        )
    )
    after = load_walkers(run.walkers("advance-2"))
    # The last check is at the first walker's end.
    assert count == 6
    assert event.trajectories == (2, 0)
    assert event.steps == (26, 26)
    assert after.steps.tolist() == [26, 20, 26]
    assert torch.equal(after.positions[9:18], before.positions[9:18])
    assert not torch.equal(after.positions[:9], before.positions[:9])


def test_resets_go_to_a_label_or_to_the_start(folder, springs):
    run = folder(md={"temperature": 1.0})
    driver = springs(run.inputs.structure, members=FACTORS)
    start = run.inputs.structure
    finish(engine.advance(effect(), run, driver))
    shifted = dataclasses.replace(start, positions=start.positions + 10.0)
    key = structure_key(shifted, "digest")
    run.labels.put(Label(shifted, key, 0.0, np.zeros((9, 3))), "digest")
    finish(
        engine.advance(
            effect(
                id="advance-2",
                walkers="advance-1",
                trajectories=(0,),
                steps_left=(1,),
                checks_left=(9,),
                audits_due=(-1,),
                resets=(effects.Reset(0, None), effects.Reset(1, key)),
            ),
            run,
            driver,
        )
    )
    after = load_walkers(run.walkers("advance-2"))
    assert np.array_equal(after.structure(1).positions, shifted.positions)
    assert np.abs(after.structure(0).positions - start.positions).max() < 0.01


def test_a_run_in_parts_equals_one_run(folder, springs):
    """Bit by bit, also across files; nothing depends on the clock in deterministic mode."""
    run = folder(misc={"deterministic": True})
    driver = springs(run.inputs.structure, members=FACTORS)
    finish(engine.advance(effect(**QUIET, steps_left=(16,) * 3), run, driver))
    for part, name in enumerate(("advance-2", "advance-3")):
        finish(
            engine.advance(
                effect(
                    id=name,
                    walkers=f"advance-{part + 1}" if part else None,
                    steps_left=(8,) * 3,
                    **QUIET,
                ),
                run,
                driver,
            )
        )
    whole, parts = (load_walkers(run.walkers(name)) for name in ("advance-1", "advance-3"))
    assert torch.equal(whole.positions, parts.positions)
    assert torch.equal(whole.momenta, parts.momenta)
    assert [g.random() for g in whole.generators] == [g.random() for g in parts.generators]


def test_deterministic_advances_end_by_count(folder, springs):
    run = folder(misc={"deterministic": True}, skip_step_mlff=1)
    driver = springs(run.inputs.structure, members=FACTORS)
    event, count = finish(engine.advance(effect(**QUIET, steps_left=(900,) * 3), run, driver))
    assert count == len(event.checks) == engine.MAX_CHECKS_DETERMINISTIC


@pytest.mark.parametrize("blast", [float("nan"), float("inf"), 600.0])
def test_an_exploded_walker_goes_back_to_its_last_sane_frame(folder, springs, blast):
    run = folder()
    calm = springs(run.inputs.structure, members=FACTORS)
    finish(engine.advance(effect(**QUIET, steps_left=(8,) * 3), run, calm))
    sane = load_walkers(run.walkers("advance-1"))
    # The 11th evaluation is that of step 10; its frontier is the step before.
    once = {**QUIET, "steps_left": (9,) * 3}
    frontier, _ = finish(engine.advance(effect(id="advance-3", **once), run, calm))
    event, _ = finish(engine.advance(effect(id="advance-2", **QUIET), run, Bomb(calm, 10, blast)))
    assert [(c.trajectory, c.step, c.reason) for c in event.candidates] == [(1, 9, "unstable")]
    candidate = event.candidates[0]
    assert ("not finite" if blast != 600.0 else "600 eV/Å on atom 2 (C;") in candidate.detail
    assert candidate.uncertainty == frontier.checks[-1].uncertainties[1]
    structure, forces = run.structures.get(candidate.key)
    reached = load_walkers(run.walkers("advance-3")).structure(1).positions
    assert np.array_equal(structure.positions, reached)
    assert np.abs(forces).max() < 50
    assert event.steps == (12, 8, 12)
    assert event.checks[-1].trajectories == (0, 2)
    after = load_walkers(run.walkers("advance-2"))
    assert np.array_equal(after.structure(1).positions, sane.structure(1).positions)
    assert torch.isfinite(after.positions).all()
    assert torch.isfinite(after.momenta).all()


@pytest.mark.parametrize("blast", [float("nan"), 1e30])
def test_a_walker_that_is_broken_where_it_starts_is_labelled_there(folder, springs, blast):
    run = folder()
    calm = springs(run.inputs.structure, members=FACTORS)
    event, _ = finish(engine.advance(effect(**QUIET), run, Bomb(calm, 0, blast)))
    assert [(c.trajectory, c.step, c.reason) for c in event.candidates] == [(1, 0, "unstable")]
    structure, forces = run.structures.get(event.candidates[0].key)
    assert np.array_equal(structure.positions, run.inputs.structure.positions)
    assert forces is None if np.isnan(blast) else np.abs(forces).max() > 1e29
    assert event.steps == (4, 0, 4)
    assert torch.isfinite(load_walkers(run.walkers("advance-1")).positions).all()


def test_a_walker_that_is_too_hot_has_exploded(folder, springs):
    run = folder()
    driver = springs(run.inputs.structure, constant=1e5, members=FACTORS)
    event, _ = finish(engine.advance(effect(**QUIET), run, driver))
    assert {c.reason for c in event.candidates} == {"unstable"}


def test_advance_with_mace(folder, tiny_models, ethanol):
    run = folder(atoms=ethanol)
    event, _ = finish(engine.advance(effect(**QUIET), run, CommitteePredictor(tiny_models)))
    assert event.path == "eager"
    assert len(event.checks) == 5
    assert all(u > 0 for check in event.checks for u in check.uncertainties)


def test_nve_starts_from_the_velocities_of_geometry_in(folder, springs, ethanol):
    momenta = np.zeros((9, 3))
    momenta[0, 0], momenta[1, 0] = 1.0, -1.0
    ethanol.set_momenta(momenta)
    run = folder(atoms=ethanol, md={"stat_ensemble": "nve"}, num_trajectories=2)
    assert run.inputs.geometries[0].velocities is not None
    walkers = start_learning(run.inputs, "cpu")
    np.testing.assert_allclose(walkers.momenta[:9], momenta, atol=1e-5)
    assert walkers.at_rest.all()
    assert (walkers.momenta[9:] != 0).all()
