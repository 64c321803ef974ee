"""Wild molecular dynamics: found, put back, and labelled at the frontier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import units
from md_forces import Bomb
from md_walkers import FACTORS, QUIET, effect, finish, sample_effect, start

from fhi_al.atoms.structure import Label, Structure, structure_key
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.errors import FhiAlError
from fhi_al.handlers import dynamics as engine
from fhi_al.handlers.beginnings import guard_of, start_learning
from fhi_al.md.driver import Prediction
from fhi_al.md.guard import Guard, Moment
from fhi_al.md.integrators import Integrator
from fhi_al.md.walkers_file import load_walkers
from fhi_al.record import effects
from fhi_al.settings.md import MdSettings


@pytest.fixture
def water() -> Structure:
    return Structure([8, 1, 1], [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])


@pytest.fixture
def salt() -> Structure:
    cell = 2.82 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Structure([11, 17], [[0, 0, 0], [2.82, 0, 0]], cell, [True] * 3)


def complaint(structure: Structure, settings: MdSettings | None = None, **changes) -> str | None:
    walkers = start([structure] * 2, seed=1)
    moment = Moment.of(walkers, torch.zeros(2, *walkers.positions.shape))
    for name, (place, value) in changes.items():
        array = getattr(moment, name).clone()
        array[place] = value
        moment = replace(moment, **{name: array})
    guard = Guard([(settings or MdSettings()).limits] * 2, [structure] * 2)
    assert guard.complaint(walkers, 0, moment) is None
    return guard.complaint(walkers, 1, moment)


def momentum(number: int, speed_A_per_fs: float) -> float:
    from ase.data import atomic_masses

    return float(atomic_masses[number] * speed_A_per_fs / units.fs)


def test_sane_walkers_have_no_complaint(water, salt):
    assert complaint(water) is None
    assert complaint(salt) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": (4, torch.nan)}, "positions are not finite"),
        ({"momenta": (4, torch.inf)}, "momenta are not finite"),
        ({"forces": ((1, 4), torch.nan)}, "forces are not finite"),
        ({"forces": ((1, 4), -600.0)}, "a force of 600 eV/Å on atom 2 (H; limit 500"),
        ({"momenta": ((4, 0), momentum(1, 0.6))}, "a speed of 0.6 Å/fs of atom 2 (H; limit 0.5"),
        ({"momenta": ((3, 0), momentum(8, 0.1))}, "K (limit 11000 K)"),
        (
            {"positions": (4, torch.tensor([0.0, 0.3, 0.0]))},
            "atoms 1 (O) and 2 (H) are 0.323 Å apart, 0.33 times",
        ),
        (
            {"positions": (4, torch.tensor([0.0, 11.0, 0.0]))},
            "atom 2 (H) is 11.0 Å away from all others (limit 10 Å)",
        ),
    ],
)
def test_a_wild_molecule_is_found(water, changes, message):
    assert message in str(complaint(water, **changes))


@pytest.mark.parametrize(
    ("strain", "message"),
    [
        (np.diag([0.5, 0.9, 0.5]), "times that of its geometry (limit 4 or 1/4)"),
        (np.diag([2.0, 2.0, 1.1]), "times that of its geometry"),
        (np.diag([12.0, 12.0, 1 / 144.0]), "so flat"),
    ],
)
def test_a_wild_cell_is_found(salt, strain, message):
    assert message in str(complaint(salt, cells=(1, torch.tensor(salt.cell @ strain))))


def test_periodic_images_may_overlap_too(salt):
    near = torch.tensor([5.64 - 0.6, 0.0, 0.0], dtype=torch.float64)
    assert "of a periodic image" in str(complaint(salt, positions=(3, near)))


def test_limits_are_the_users(water):
    lenient = MdSettings(max_force_eV_per_A=700, max_temperature_K=1e6, min_distance_factor=0.2)
    assert complaint(water, lenient, forces=((1, 4), -600.0)) is None
    assert complaint(water, lenient, momenta=((3, 0), momentum(8, 0.1))) is None
    assert complaint(water, lenient, positions=(4, torch.tensor([0.0, 0.3, 0.0]))) is None


class Puller:
    """Springs, and from some evaluation on a strong but finite pull at an atom of one walker."""

    path, device = "puller", torch.device("cpu")

    def __init__(self, springs, start, pull=10.0):
        self.springs, self.start, self.pull = springs, start, pull

    def neighbor_lists(self):
        return None

    def predict(self, batch, lists=None, *, stress=False):
        out = self.springs.predict(batch)
        self.start -= 1
        if self.start >= 0:
            return out
        forces = out.forces.clone()
        forces[:, 12, 0] += self.pull
        return Prediction(out.energies, forces)


def test_the_frontier_is_the_last_sane_step(folder, springs):
    """Between two checks, as found by looking at every step."""
    run = folder(skip_step_mlff=16)
    calm = springs(run.inputs.structure, constant=0.01, members=FACTORS)
    long = {**QUIET, "steps_left": (48,) * 3}
    event, _ = finish(engine.advance(effect(**long), run, Puller(calm, 20)))
    (candidate,) = event.candidates
    assert (candidate.trajectory, candidate.reason) == (1, "unstable")
    assert candidate.detail
    check = candidate.step - candidate.step % 16
    assert check < candidate.step < check + 15
    # The walker is back at the check before, the others are at the next one.
    assert event.steps == (check + 16, check, check + 16)

    guard = guard_of(run.inputs, range(3))
    puller, found = Puller(calm, 20), 0
    walkers = start_learning(run.inputs, "cpu")
    integrator = Integrator(walkers, [t.protocol for t in run.inputs.trajectories[:3]])
    members = puller.predict(walkers.batch).forces
    for step in range(1, 49):
        integrator.begin(walkers, members.mean(0))
        members = puller.predict(walkers.batch).forces
        integrator.finish(walkers, members.mean(0))
        if guard.complaint(walkers, 1, Moment.of(walkers, members)):
            break
        found, positions = step, walkers.structure(1).positions
    assert candidate.step == found
    stored, forces = run.structures.get(candidate.key)
    np.testing.assert_array_equal(stored.positions, positions)
    assert np.isfinite(forces).all()


@pytest.mark.parametrize("blast", [float("nan"), 600.0])
def test_the_other_walkers_are_not_disturbed(folder, springs, blast):
    run = folder()
    calm = springs(run.inputs.structure, members=FACTORS)
    steps = {**QUIET, "steps_left": (12,) * 3}
    finish(engine.advance(effect(**steps), run, calm))
    event, _ = finish(engine.advance(effect(id="advance-2", **steps), run, Bomb(calm, 10, blast)))
    assert event.candidates
    undisturbed, disturbed = (load_walkers(run.walkers(f"advance-{n}")) for n in (1, 2))
    for index in (0, 2):
        atoms = undisturbed.batch.atoms(index)
        assert torch.equal(disturbed.positions[atoms], undisturbed.positions[atoms])
        assert torch.equal(disturbed.momenta[atoms], undisturbed.momenta[atoms])
    assert not torch.equal(disturbed.positions[9:18], undisturbed.positions[9:18])


def test_the_other_walkers_of_mace_are_not_disturbed(folder, tiny_models):
    run = folder()
    steps = {**QUIET, "steps_left": (4,) * 3}
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    finish(engine.advance(effect(**steps), run, predictor))

    class Blown(Bomb):
        device = predictor.device

    finish(engine.advance(effect(id="advance-2", **steps), run, Blown(predictor, 3, 600.0)))
    undisturbed, disturbed = (load_walkers(run.walkers(f"advance-{n}")) for n in (1, 2))
    for index in (0, 2):
        atoms = undisturbed.batch.atoms(index)
        off = disturbed.positions[atoms] - undisturbed.positions[atoms]
        assert off.abs().max() < 1e-10


def test_damaged_weights_stop_with_advice(folder, tiny_models):
    run = folder()
    with torch.no_grad():
        next(tiny_models[1].parameters()).fill_(torch.nan)
    with pytest.raises(FhiAlError, match="weights are damaged"):
        finish(engine.advance(effect(**QUIET), run, CommitteePredictor(tiny_models)))


def test_sampling_does_not_break_down_for_ever(folder, springs):
    run = folder(skip_step_initial=3)

    class Dying(Bomb):
        def predict(self, batch, lists=None, *, stress=False):
            out = self.springs.predict(batch)
            self.fuse -= 1
            return out if self.fuse >= 0 else Prediction(out.energies, out.forces * torch.nan)

    driver = Dying(springs(run.inputs.structure), 5, None)
    with pytest.raises(FhiAlError, match="broke down 20 times in a row after step 3"):
        finish(engine.sample(sample_effect(), run, driver))


def test_a_walker_that_starts_from_overlapping_atoms_is_labelled_there(folder, springs):
    """As after a reset to such a structure; it doesn't move, and the others do."""
    run = folder()
    start = run.inputs.structure
    positions = start.positions.copy()
    positions[3] = positions[0] + [0.2, 0.0, 0.0]
    overlapping = replace(start, positions=positions)
    key = structure_key(overlapping, "digest")
    run.labels.put(Label(overlapping, key, 0.0, np.zeros((9, 3))), "digest")
    driver = springs(start, members=FACTORS)
    finish(engine.advance(effect(**QUIET), run, driver))
    steps = {**QUIET, "steps_left": (4,) * 3, "walkers": "advance-1"}
    event, _ = finish(
        engine.advance(
            effect(id="advance-2", resets=(effects.Reset(1, key),), **steps), run, driver
        )
    )
    (candidate,) = event.candidates
    assert (candidate.trajectory, candidate.step, candidate.key) == (1, 20, key)
    assert "are 0.200 Å apart" in candidate.detail
    assert event.steps == (24, 20, 24)
    assert torch.isfinite(load_walkers(run.walkers("advance-2")).positions).all()
