"""Sampling of structures and the steps of ab initio MD, with real settings and files."""

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from md_walkers import finish, sample_effect

from fhi_al.atoms.structure import Label, structure_key
from fhi_al.ensemble.predict import CalculatorDriver
from fhi_al.errors import JournalError
from fhi_al.handlers import dynamics as engine
from fhi_al.handlers.beginnings import sampling_protocol, start_sampling
from fhi_al.md.integrators import Integrator
from fhi_al.md.walkers_file import load_walkers
from fhi_al.record import effects


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

    whole = start_sampling(run.inputs, [0], "reference", "cpu")
    integrator = Integrator(whole, [sampling_protocol(run.inputs, 0)])
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
