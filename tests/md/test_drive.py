"""What moves the walkers: members, bias, ramps, and many systems at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from md_walkers import finish, protocol

from fhi_al.atoms.structure import Structure
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.md.bias import Bias
from fhi_al.md.drive import Drive
from fhi_al.md.guard import Guard
from fhi_al.md.integrators import Integrator
from fhi_al.md.protocol import Ramp
from fhi_al.md.shard import Shard
from fhi_al.md.start import start_walkers
from fhi_al.settings.md import MdSettings


def shard_of(walkers, drive):
    guard = Guard([MdSettings(max_separation_A=50).limits] * len(walkers), walkers.structures)
    return Shard(walkers, drive, guard)


class Counting(CommitteePredictor):
    """Counts the models that it asks."""

    asked = 0

    def predict(self, batch, lists=None, *, stress=False, only_first=False):
        self.asked += 1 if only_first else len(self)
        return super().predict(batch, lists, stress=stress, only_first=only_first)


def test_batched_equals_one_at_a_time(tiny_models, ethanol, silicon):
    """Molecules and crystals, six kinds of dynamics, three time steps, in one batch of MACE."""
    crystal = Structure.from_atoms(silicon.repeat((2, 1, 1)))
    molecule = Structure.from_atoms(ethanol)
    held = replace(molecule, fixed=np.arange(9) < 2)
    npt = {"ensemble": "npt", "pressure": 0.02, "barostat_time_fs": 50.0}
    cases = [
        (molecule, protocol(ensemble="nve", timestep_fs=0.25)),
        (held, protocol(thermostat="langevin", temperature=500.0)),
        (crystal, protocol(thermostat="bussi", thermostat_time_fs=20.0)),
        (molecule, protocol(thermostat="nhc", temperature=100.0, timestep_fs=0.5)),
        (crystal, protocol(thermostat="langevin", timestep_fs=1.0, **npt)),
        (crystal, protocol(thermostat="bussi", anisotropic=True, **npt)),
    ]
    predictor = CommitteePredictor(tiny_models[:2], dtype=torch.float64)

    def move(numbers):
        structures, protocols = zip(*(cases[i] for i in numbers), strict=True)
        walkers = start_walkers(structures, numbers, protocols)
        finish(shard_of(walkers, Drive(predictor, walkers, protocols)).advance(12))
        return walkers

    together = move(range(len(cases)))
    for number, (structure, _) in enumerate(cases):
        alone = move([number])
        atoms = together.batch.atoms(number)
        np.testing.assert_allclose(together.positions[atoms], alone.positions, atol=1e-11)
        np.testing.assert_allclose(together.momenta[atoms], alone.momenta, atol=1e-11)
        np.testing.assert_allclose(together.batch.cells[number], alone.batch.cells[0], atol=1e-12)
        assert (structure.cell != alone.structure(0).cell).any() == (number >= 4)


def test_one_member_drives_and_the_others_are_asked_at_checks(tiny_models, ethanol):
    structure = Structure.from_atoms(ethanol)
    predictor = Counting(tiny_models, dtype=torch.float64)
    protocols = [protocol(ensemble="nve")]

    def move(driver, **options):
        walkers = start_walkers([structure], [0], protocols)
        shard = shard_of(walkers, Drive(driver, walkers, protocols, **options))
        frames = [finish(shard.advance(5))[0][0] for _ in range(2)]
        return walkers, frames, shard.structure(0)[1]

    walkers, frames, forces = move(predictor, one_member=True)
    # The start and two checks ask all three; the eight steps between only one.
    assert predictor.asked == 3 * 3 + 8
    alone, _, _ = move(CommitteePredictor(tiny_models[:1], dtype=torch.float64))
    np.testing.assert_allclose(walkers.positions, alone.positions, atol=1e-12)
    out = predictor.predict(walkers.batch)
    spread = out.forces.var(dim=0, correction=0).mean(dim=1).sqrt().max()
    assert frames[-1].uncertainty == pytest.approx(float(spread))
    # What is stored for comparison with the label is what the committee says.
    np.testing.assert_allclose(forces, out.forces.mean(0), atol=1e-12)


def test_the_bias_is_the_gradient_of_the_spread(tiny_models, ethanol, silicon):
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    structures = [Structure.from_atoms(atoms) for atoms in (ethanol, silicon, ethanol)]
    protocols = [
        protocol(bias=0.7, max_bias_force=1e9),
        protocol(bias=0.3, max_bias_force=1e9),
        protocol(),
    ]
    walkers = start_walkers(structures, range(3), protocols)
    batch = walkers.batch
    bias = Bias(protocols, torch.device("cpu"))
    forces, stress = bias.of(predictor.predict(batch, stress=True), batch)
    assert not forces[batch.atoms(2)].any()
    strengths = torch.tensor([0.7, 0.3, 0.0])

    def energies():
        spread = predictor.predict(batch).energies.std(0, correction=0)
        return -strengths * spread

    step = 1e-4
    for atom, axis, walker in ((2, 1, 0), (10, 0, 1)):
        batch.positions[atom, axis] += step
        ahead = energies()[walker]
        batch.positions[atom, axis] -= 2 * step
        behind = energies()[walker]
        batch.positions[atom, axis] += step
        assert float(behind - ahead) / (2 * step) == pytest.approx(
            float(forces[atom, axis]), rel=1e-5
        )
    values = []
    original = batch.cells.clone(), batch.positions.clone()
    for sign in (1, -1):
        strain = torch.eye(3, dtype=torch.float64)
        strain[0, 0] += sign * step
        batch.cells.copy_(original[0] @ strain)
        batch.positions.copy_(original[1] @ strain)
        values.append(float(energies()[1]))
    volume = silicon.get_volume()
    slope = (values[0] - values[1]) / (2 * step * volume)
    assert slope == pytest.approx(float(stress[1, 0, 0]), rel=1e-4)


def test_the_bias_is_capped(tiny_models, ethanol):
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    structure = Structure.from_atoms(ethanol)
    protocols = [protocol(bias=1e3, max_bias_force=0.2)]
    walkers = start_walkers([structure], [0], protocols)
    out = predictor.predict(walkers.batch)
    push = Drive(predictor, walkers, protocols).push(walkers, check=True)
    bias = push.forces - out.forces.mean(0)
    assert float(bias.norm(dim=1).max()) == pytest.approx(0.2)
    assert bias.sum(0).abs().max() < 1e-10


def test_ramps_set_what_is_held(ethanol):
    structure = Structure.from_atoms(ethanol)
    protocols = [
        replace(protocol(), temperature=Ramp(300, 500, 10, "steps")),
        replace(protocol(), temperature=Ramp(300, 100, 8, "labels")),
    ]
    walkers = start_walkers([structure] * 2, range(2), protocols)
    moves = Integrator(walkers, protocols, n_train=4)
    forces = torch.zeros_like(walkers.positions)
    seen = []
    for _ in range(12):
        moves.begin(walkers, forces)
        walkers.steps += 1
        seen.append(walkers.temperatures.tolist())
    assert [t for t, _ in seen] == pytest.approx([300 + 20 * min(i, 10) for i in range(12)])
    assert {t for _, t in seen} == {200.0}
