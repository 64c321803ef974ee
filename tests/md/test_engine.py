"""The work of molecular dynamics as the controller asks for it, with real settings and files."""

import dataclasses

import numpy as np
import pytest
import torch
import yaml
from ase import units
from ase.calculators.emt import EMT

from fhi_al import effects
from fhi_al.codec import from_json, to_json
from fhi_al.ensemble.predict import CalculatorDriver, CommitteePredictor, Prediction
from fhi_al.errors import JournalError
from fhi_al.md import engine
from fhi_al.md.integrators import Integrator
from fhi_al.md.walkers_file import load_walkers
from fhi_al.run_folder import RunFolder
from fhi_al.settings import load_inputs
from fhi_al.structure import Label, structure_key

FACTORS = (0.9, 1.0, 1.1)
# A history with which no walker will ever cross.
QUIET = {"histories": (effects.History("", (1e9,) * 20, 20),)}


def finish(generator):
    """Run a generator to its end: its result, and how often it yielded."""
    count = 0
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value, count
        count += 1


def geometry_in(atoms):
    lines = [
        f"lattice_vector {x!r} {y!r} {z!r}" for x, y, z in atoms.cell.tolist() if atoms.pbc.all()
    ]
    # FHI-aims takes Å/ps.
    velocities = atoms.get_velocities() * units.fs * 1000
    for i, (x, y, z) in enumerate(atoms.positions.tolist()):
        lines.append(f"atom {x!r} {y!r} {z!r} {atoms.symbols[i]}")
        if atoms.constraints and i in atoms.constraints[0].index:
            lines.append("constrain_relaxation .true.")
        if velocities.any():
            lines.append("velocity " + " ".join(map(repr, velocities[i].tolist())))
    return "\n".join(lines)


@pytest.fixture
def folder(tmp_path, ethanol):
    """Makes a run folder with settings of ACTIVE_LEARNING, MD and MISC."""

    def make(atoms=ethanol, md=None, misc=None, **active_learning):
        (tmp_path / "geometry.in").write_text(geometry_in(atoms))
        sections = {
            "REFERENCE": {"engine": "xtb"},
            "ACTIVE_LEARNING": {
                "initial_sampling": "perturb",
                "num_trajectories": 3,
                "skip_step_mlff": 4,
                "sanity_skip": 12,
                **active_learning,
            },
            "MD": {"temperature": 300, "timestep": 1.0, "friction": 0.02, **(md or {})},
            "MISC": misc or {},
        }
        (tmp_path / "mace_settings.yaml").write_text("")
        (tmp_path / "active_learning_settings.yaml").write_text(yaml.safe_dump(sections))
        return RunFolder(load_inputs(tmp_path), "digest")

    return make


def effect(**changes):
    trajectories = changes.get("trajectories", (0, 1, 2))
    n = len(trajectories)
    return effects.Advance(
        **{
            "id": "advance-1",
            "walkers": None,
            "trajectories": trajectories,
            "resets": (),
            "weights": "train-1",
            "histories": (),
            "checks_left": (500,) * n,
            "steps_left": (20,) * n,
            "audits_due": (-1,) * n,
            **changes,
        }
    )


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


class Bomb:
    """Springs until a structure has made some steps, then nonsense for one of them."""

    path, device = "bomb", torch.device("cpu")

    def __init__(self, springs, fuse, blast):
        self.springs, self.fuse, self.blast = springs, fuse, blast

    def neighbor_lists(self):
        return None

    def predict(self, batch, lists=None, *, stress=False):
        out = self.springs.predict(batch)
        self.fuse -= 1
        if self.fuse < 0:
            forces = out.forces.clone()
            forces[1, 10] = self.blast
            return Prediction(out.energies, forces)
        return out


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
    walkers = engine._start(run.inputs, "cpu")
    np.testing.assert_allclose(walkers.momenta[:9], momenta, atol=1e-5)
    assert walkers.at_rest.all()
    assert (walkers.momenta[9:] != 0).all()


def sample_effect(**changes):
    defaults = {"id": "sample-1", "method": "foundation", "count": 3, "first": 0, "walkers": None}
    return effects.Sample(**{**defaults, **changes})


def test_samples_of_a_pretrained_model(folder, silicon):
    silicon.symbols[:] = "Cu"
    silicon.set_cell(silicon.cell * (2.55 / 3.84), scale_atoms=True)
    run = folder(atoms=silicon.repeat((2, 1, 1)), skip_step_initial=5)
    driver = CalculatorDriver(EMT())
    event, count = finish(engine.sample(sample_effect(), run, driver))
    assert count == 15
    assert len(set(event.keys)) == 3
    more, _ = finish(
        engine.sample(sample_effect(id="sample-2", first=3, walkers="sample-1"), run, driver)
    )
    assert not set(more.keys) & set(event.keys)
    walkers = load_walkers(run.walkers("sample-2"))
    assert walkers.steps.tolist() == [30]
    assert structure_key(walkers.structure(0), "digest") == more.keys[-1]
    # What the pretrained model says is no prediction of the committee's.
    assert run.structures.get(more.keys[-1])[1] is None


def test_perturbed_samples_are_reproducible(folder, ethanol, silicon):
    settings = {"perturb_displacement_A": 0.05, "perturb_strain": 0.02}
    run = folder(atoms=silicon, **settings)
    effect = sample_effect(method="perturb", count=200)
    event, count = finish(engine.sample(effect, run, None))
    assert event.walkers is None
    assert count == len(set(event.keys)) == 200
    again, _ = finish(engine.sample(sample_effect(method="perturb", count=2, first=5), run, None))
    assert again.keys == event.keys[5:7]

    start = run.inputs.structure
    cells, shifts = [], []
    for key in event.keys:
        structure = run.structures.get(key)[0]
        deformation = np.linalg.solve(start.cell, structure.cell)
        np.testing.assert_allclose(deformation, deformation.T, atol=1e-12)
        cells.append(deformation - np.eye(3))
        shifts.append(structure.positions - start.positions @ deformation)
    assert np.std(cells) == pytest.approx(0.02, rel=0.1)
    assert np.std(shifts) == pytest.approx(0.05, rel=0.1)

    run = folder(atoms=ethanol, **settings)
    event, _ = finish(engine.sample(effect, run, None))
    shifts = [
        run.structures.get(key)[0].positions - run.inputs.structure.positions for key in event.keys
    ]
    assert np.std(shifts) == pytest.approx(0.05, rel=0.1)


def test_perturbing_leaves_fixed_atoms_alone(folder, silicon):
    from ase.constraints import FixAtoms

    silicon.set_constraint(FixAtoms([1]))
    run = folder(atoms=silicon)
    event, _ = finish(engine.sample(sample_effect(method="perturb"), run, None))
    for key in event.keys:
        structure = run.structures.get(key)[0]
        assert np.array_equal(structure.cell, run.inputs.structure.cell)
        assert np.array_equal(structure.positions[1], run.inputs.structure.positions[1])
        assert (structure.positions[0] != run.inputs.structure.positions[0]).all()


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_reference_md_over_files_equals_a_continuous_run(folder, springs, ensemble):
    run = folder(md={"stat_ensemble": ensemble})
    driver = springs(run.inputs.structure)
    walkers, label = None, None
    for step in range(6):
        event = engine.reference_step(
            effects.ReferenceStep(f"md-{step}", walkers, label, step), run
        )
        (label,), walkers = event.keys, event.walkers
        structure = run.structures.get(label)[0]
        loaded = load_walkers(run.walkers(walkers))
        assert loaded.steps.tolist() == [step]
        forces = driver.predict(loaded.batch).forces[0].numpy()
        run.labels.put(Label(structure, label, 0.0, forces), "digest")

    whole = engine._start_sampling(run.inputs, [0], "reference", "cpu")
    integrator = Integrator(whole, [engine._sampling_protocol(run.inputs, 0)])
    forces = driver.predict(whole.batch).forces[0]
    for _ in range(5):
        integrator.begin(whole, forces)
        forces = driver.predict(whole.batch).forces[0]
        integrator.finish(whole, forces)
    assert torch.equal(loaded.positions, whole.positions)
    assert (loaded.positions.numpy() != run.inputs.structure.positions).all()


def test_reference_md_refuses_the_label_of_another_structure(folder):
    run = folder()
    first = engine.reference_step(effects.ReferenceStep("md-0", None, None, 0), run)
    with pytest.raises(JournalError, match="but the label is of abc"):
        engine.reference_step(effects.ReferenceStep("md-1", first.walkers, "abc", 1), run)
