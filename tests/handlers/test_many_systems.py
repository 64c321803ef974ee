"""The work of molecular dynamics with several geometries, as the controller asks for it."""

import numpy as np
import pytest
import torch
import yaml
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write
from md_walkers import effect, finish, sample_effect

from fhi_al.atoms.structure import Label
from fhi_al.ensemble.predict import CalculatorDriver, CommitteePredictor
from fhi_al.errors import EngineError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.handlers import dynamics as engine
from fhi_al.handlers.beginnings import sampling_protocol, start_learning, start_sampling
from fhi_al.md.integrators import Integrator
from fhi_al.md.walkers_file import load_walkers
from fhi_al.record import effects
from fhi_al.settings import load_inputs


@pytest.fixture
def run(tmp_path):
    """Makes a run folder: files of structures, and settings of MD and ACTIVE_LEARNING."""

    def make(structures, md=None, **active_learning):
        names = []
        for i, atoms in enumerate(structures):
            names.append(f"start{i}.traj")
            write(tmp_path / names[-1], atoms)
        settings = {"initial_sampling": "perturb", "geometry": names, "skip_step_initial": 3}
        sections = {
            "REFERENCE": {"engine": "xtb"},
            "MD": md or {},
            "ACTIVE_LEARNING": {**settings, **active_learning},
        }
        (tmp_path / "mace_settings.yaml").write_text("")
        (tmp_path / "active_learning_settings.yaml").write_text(yaml.safe_dump(sections))
        return RunFolder(load_inputs(tmp_path), "digest")

    return make


def copper():
    return bulk("Cu", cubic=True)


def formulas(folder, keys):
    return [folder.structures.get(key)[0].formula for key in keys]


@pytest.mark.parametrize("method", ["perturb", "foundation"])
def test_samples_take_turns_over_rounds(run, method):
    """Seven structures of three geometries, four and three: none is left out."""
    folder = run([copper(), molecule("N2"), bulk("Al", cubic=True)])
    driver = CalculatorDriver(EMT())
    first, _ = finish(engine.sample(sample_effect(method=method, count=4), folder, driver))
    walkers = first.walkers
    second, _ = finish(
        engine.sample(
            sample_effect(id="sample-2", method=method, count=3, first=4, walkers=walkers),
            folder,
            driver,
        )
    )
    keys = [*first.keys, *second.keys]
    assert len(set(keys)) == 7
    assert formulas(folder, keys) == ["Cu4", "N2", "Al4", "Cu4", "N2", "Al4", "Cu4"]
    structures = [folder.structures.get(key)[0] for key in keys]
    assert first.compositions + second.compositions == tuple(s.composition for s in structures)


def calculate(structure):
    atoms = structure.to_atoms()
    atoms.calc = EMT()
    stress = atoms.get_stress() if structure.periodic else None
    return atoms.get_potential_energy(), atoms.get_forces(), stress


def test_ab_initio_md_of_two_geometries_at_constant_pressure(run):
    """Each goes its own way over files; the crystal with the label's stress, as in one go."""
    md = [
        {"geometries": "start0.traj"},
        {"geometries": "start1.traj", "stat_ensemble": "npt", "pressure_GPa": 20,
         "barostat_time_fs": 20, "thermostat": "bussi", "cell_change": "anisotropic"},
    ]  # fmt: skip
    folder = run([molecule("N2"), copper()], md)
    files, keys = [None, None], [None, None]
    for step in range(5):
        for geometry in (0, 1):
            event = engine.reference_step(
                effects.ReferenceStep(
                    f"md{geometry}-{step}", files[geometry], keys[geometry], step, geometry
                ),
                folder,
            )
            assert event.geometry == geometry
            files[geometry], (keys[geometry],) = event.walkers, event.keys
            structure = folder.structures.get(event.keys[0])[0]
            energy, forces, stress = calculate(structure)
            folder.labels.put(Label(structure, event.keys[0], energy, forces, stress), "digest")
    assert formulas(folder, keys) == ["N2", "Cu4"]
    whole = start_sampling(folder.inputs, [1], "reference", "cpu")
    moves = Integrator(whole, [sampling_protocol(folder.inputs, 1)])
    driver = CalculatorDriver(EMT())
    out = driver.predict(whole.batch, stress=True)
    for _ in range(4):
        moves.begin(whole, out.forces[0], out.stress[0])
        out = driver.predict(whole.batch, stress=True)
        moves.finish(whole, out.forces[0])
    reached = load_walkers(folder.walkers(files[1]))
    np.testing.assert_allclose(reached.batch.cells, whole.batch.cells, atol=1e-12)
    np.testing.assert_allclose(reached.positions, whole.positions, atol=1e-12)
    assert reached.batch.cells.det() < 0.999 * copper().get_volume()

    folder.labels.path(keys[1]).unlink()
    folder.labels.put(Label(structure, keys[1], energy, forces), "digest")
    with pytest.raises(EngineError, match="the reference gives no stress"):
        engine.reference_step(effects.ReferenceStep("md1-5", files[1], keys[1], 5, 1), folder)


def test_each_system_has_its_own_threshold_and_home(run, tiny_models, ethanol, silicon):
    folder = run(
        [ethanol, silicon.repeat((2, 1, 1))],
        num_trajectories=3,
        threshold_scope="system",
        uncertainty_warmup=2,
        skip_step_mlff=2,
    )
    loud = (effects.History("C2H6O", (1e9,) * 5, 5), effects.History("Si4", (1e-9,) * 400, 400))
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    event, _ = finish(engine.advance(effect(histories=loud), folder, predictor))
    assert [(c.trajectory, c.reason) for c in event.candidates] == [(1, "threshold")]
    assert event.candidates[0].threshold < event.candidates[0].uncertainty
    resets = (effects.Reset(0, None), effects.Reset(1, None))
    event, _ = finish(
        engine.advance(
            effect(id="advance-2", walkers="advance-1", trajectories=(2,), resets=resets,
                   steps_left=(2,), checks_left=(9,), audits_due=(-1,), histories=loud),
            folder,
            predictor,
        )
    )  # fmt: skip
    walkers = load_walkers(folder.walkers("advance-2"))
    for trajectory, atoms in ((0, ethanol), (1, silicon.repeat((2, 1, 1)))):
        assert np.array_equal(walkers.structure(trajectory).positions, atoms.positions)


def test_constant_pressure_gives_the_volume_of_the_equation_of_state(run):
    """Copper with EMT at 20 GPa and 100 K: the static equation of state, and a little more."""
    md = {"stat_ensemble": "npt", "pressure_GPa": 20, "temperature_K": 100, "timestep_fs": 3.0,
          "barostat_time_fs": 60, "friction_per_fs": 0.05}  # fmt: skip
    folder = run([copper()], md, num_trajectories=8)
    walkers = start_learning(folder.inputs, "cpu")
    protocols = [trajectory.protocol for trajectory in folder.inputs.trajectories]
    moves, driver = Integrator(walkers, protocols), CalculatorDriver(EMT())
    out = driver.predict(walkers.batch, stress=True)
    volumes = []
    for step in range(250):
        moves.begin(walkers, out.forces[0], out.stress[0])
        out = driver.predict(walkers.batch, stress=True)
        moves.finish(walkers, out.forces[0])
        if step >= 100:
            volumes.append(torch.linalg.det(walkers.batch.cells).numpy())
    atoms, static = copper(), []
    scales = np.linspace(0.9, 1.0, 201)
    for scale in scales:
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell * scale, scale_atoms=True)
        scaled.calc = EMT()
        static.append(scaled.get_potential_energy() + 20 * units.GPa * scaled.get_volume())
    volume = atoms.get_volume() * scales[int(np.argmin(static))] ** 3
    means = np.array(volumes).mean(0)
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert error < 0.005 * volume
    # Thermal expansion of copper up to 100 K is 0.3 % of the volume.
    assert abs(means.mean() - 1.002 * volume) < 4 * error + 0.003 * volume
    assert volume < 0.92 * atoms.get_volume()
