"""What is wrong with the input files, in words that a user can act on."""

import pytest
from input_texts import ASI, CONTROL, SILICON, problems_of

from fhi_al.settings import load_inputs


@pytest.mark.parametrize(
    ("al", "problem"),
    [
        (
            "ACTIVE_LEARNING: {desired_ac: 1}",
            "active_learning_settings.yaml: ACTIVE_LEARNING.desired_ac is not a setting; "
            "did you mean desired_acc?",
        ),
        ("ACTIVE_LERNING: {}", "did you mean ACTIVE_LEARNING?"),
        ("ACTIVE_LEARNING: {n_samples: many}", "got 'many', expected a whole number."),
        ("ACTIVE_LEARNING: {n_samples: 1.5}", "got 1.5, expected a whole number."),
        ("ACTIVE_LEARNING: {n_samples: yes}", "got True, expected a whole number."),
        ("ACTIVE_LEARNING: {n_samples: 0}", "n_samples: got 0, expected a number >= 1."),
        ("ACTIVE_LEARNING: {n_samples: [1]}", "got [1], expected a whole number."),
        ("ACTIVE_LEARNING: {desired_acc: .nan}", "expected a finite number."),
        ("ACTIVE_LEARNING: {desired_acc: -1}", "got -1, expected a number > 0"),
        ("ACTIVE_LEARNING: {analysis: perhaps}", "got 'perhaps', expected true or false."),
        ("ACTIVE_LEARNING: {valid_ratio: 1}", "got 1, expected a number < 1"),
        ("ACTIVE_LEARNING: {ensemble_size: 1}", "got 1, expected a number >= 2"),
        ("ACTIVE_LEARNING: 3", "ACTIVE_LEARNING: got 3, expected settings"),
        ("ACTIVE_LEARNING: {c_x: 0.2, threshold_factor: 0.8}", "are both given"),
        ("ACTIVE_LEARNING: {c_x: 1}", "c_x: got 1, expected a number < 1"),
        ("ACTIVE_LEARNING: {c_x: no}", "c_x: got False, expected a number"),
        ("ACTIVE_LEARNING: {lambda: 2, initial_accuracy_factor: 2}", "both are given"),
        ("ACTIVE_LEARNING: {lambda: x}", "ACTIVE_LEARNING.lambda: got 'x', expected a number"),
        ("ACTIVE_LEARNING: {patience: 2, patience: 3}", "line 2, column 32): the key patience"),
        ("ACTIVE_LEARNING: {}\nACTIVE LEARNING: {}", "ACTIVE_LEARNING is given twice"),
        ("ACTIVE_LEARNING: {initial_sampling: pertrub}", "did you mean perturb?"),
        ("ACTIVE_LEARNING: {initial_sampling: my.model}", "there is no file"),
        ("ACTIVE_LEARNING: {initial_sampling: 3}", "got 3, expected text"),
        ("ACTIVE_LEARNING: {test_set: none.xyz}", "there is no file"),
        ("ACTIVE_LEARNING: {initial_models: [geometry.in]}", "got 1 files, expected ensemble_size"),
        ("ACTIVE_LEARNING: {dataset_dir: $NO_SUCH_VARIABLE/x}", "$NO_SUCH_VARIABLE is not set"),
        ("ACTIVE_LEARNING: {uncertainty: max_atomic}", "did you mean max_atomic_sd?"),
        ("MD: {stat_ensemble: NPT}", "geometry.in is not; use nvt for it"),
        ("MD: {stat_ensemble: NPH}", "the supported ones are nve, nvt and npt"),
        ("MD: {temperature_end_K: 500}", "needs one of ramp_steps and ramp_labels"),
        ("MD: {ramp_steps: 500}", "needs temperature_end_K or pressure_end_GPa"),
        ("MD: []", "got an empty list"),
        ("MD: [{seed: 1}, {sed: 2}]", "MD[1].sed is not a setting; did you mean seed?"),
        ("MD: {trajectories: [1]}", "no settings are for the trajectories 0, 2, 3"),
        ("MD: [{}, {trajectories: 4}]", "got 4, expected numbers below num_trajectories (4)"),
        ("MD: [{}, {geometries: a.xyz}]", "got 'a.xyz', expected one of geometry.in"),
        ("MD: {thermostat: nose-hoover}", "expected 'langevin'"),
        ("MD: {temperature: 300, temperature_K: 300}", "old name of temperature_K"),
        ("PARALLEL: {ml_rank: 2}", "did you mean ml_ranks?"),
        (
            "PARALLEL: {ml_ranks: many}",
            "ml_ranks: got 'many', expected a whole number >= 1, or auto",
        ),
        ("PARALLEL: {ml_ranks: 0}", "ml_ranks: got 0, expected a whole number >= 1, or auto"),
        ("PARALLEL: {ml_ranks: true}", "ml_ranks: got True, expected a whole number >= 1, or auto"),
        ("MD: {", "active_learning_settings.yaml: not valid YAML (line 2, column 6)"),
        ("MD: 2001-13-45", "not valid YAML"),
        ("- a", "not valid YAML"),
    ],
)
def test_each_mistake_has_one_clear_sentence(folder, al, problem):
    (found,) = problems_of(folder(al="REFERENCE: {engine: xtb}\n" + al))
    assert found.startswith("active_learning_settings.yaml: ")
    assert problem in found


@pytest.mark.parametrize(
    ("mace", "problem"),
    [
        ("GENERAL: {seed: -1}", "GENERAL.seed: got -1, expected a number >= 0."),
        ("GENERAL: {name_exp: a/b}", "GENERAL.name_exp: got 'a/b'"),
        ("GENERAL: {default_dtype: float16}", "expected 'float32' or 'float64'"),
        ("ARCHITECTURE: {max_l: 1}", "did you mean max_L?"),
        ("ARCHITECTURE: {r_max: far}", "ARCHITECTURE.r_max: got 'far', expected a number."),
        ("ARCHITECTURE: {interaction: RealAgnosticBlock}", "did you mean RealAgnostic"),
        ("ARCHITECTURE: {MLP_irreps: 16x1o}", "MLP_irreps: got '16x1o'"),
        ("ARCHITECTURE: {atomic_energies: {H: -13}}", "no energy of O"),
        ("ARCHITECTURE: {atomic_energies: {Q: -13}}", "'Q' is neither a chemical symbol"),
        ("ARCHITECTURE: {atomic_energies: {H: -1, 1: -2}}", "H is there twice"),
        ("ARCHITECTURE: {atomic_energies: {H: low}}", "expected a number of eV for 'H'"),
        ("ARCHITECTURE: {atomic_energies: average}", "auto, or nothing"),
        ("TRAINING: {loss: dipole}", "got 'dipole', expected 'weighted'"),
        ("TRAINING: {loss: stress}", "a molecule has none"),
        ("TRAINING: {forces_weight: 0, energy_weight: 0}", "have no weight in the loss"),
        ("TRAINING: {valid_fraction: 0}", "got 0, expected a number > 0"),
        ("MISC: {device: gpu}", "expected 'auto', 'cpu', 'cuda'"),
    ],
)
def test_mistakes_in_the_models_settings(folder, mace, problem):
    (found,) = problems_of(folder(mace=mace))
    assert found.startswith("mace_settings.yaml: ")
    assert problem in found


@pytest.mark.parametrize(
    ("al", "problem"),
    [
        ("", "REFERENCE.engine is missing: the reference method must be chosen"),
        ("REFERENCE: {}", "REFERENCE.engine: it is missing, expected one of asi, xtb, ase, mlff"),
        ("REFERENCE: {engine: vasp}", "got 'vasp', expected one of asi, xtb, ase, mlff"),
        ("REFERENCE: {engine: xtb, metod: GFN1-xTB}", "did you mean method?"),
        ("REFERENCE: xtb", "expected settings such as `engine: xtb`"),
        ("REFERENCE: {engine: asi}", "REFERENCE.library is missing; give the path"),
        ("REFERENCE: {engine: asi, library: none.so}", "there is no file"),
        ("REFERENCE: {engine: asi, library: libaims.so}", "no species_dir is given"),
        ("REFERENCE: {engine: ase}", "REFERENCE.calculator is missing"),
        ("REFERENCE: {engine: ase, calculator: PySCF}", "REFERENCE.calculator: got 'PySCF'"),
        ("REFERENCE: {engine: mlff, model: none.model}", "there is no file"),
    ],
)
def test_mistakes_in_the_choice_of_the_reference(folder, aims, al, problem):
    control = "species H\nnucleus 1\n"
    found = problems_of(folder(al=al, control=control))
    assert len(found) == 1
    assert problem in found[0]


def test_all_problems_of_all_files_are_told_at_once(folder):
    found = problems_of(
        folder(
            al="ACTIVE_LEARNING: {n_samples: 0, valid_ratio: 2}\nMD: {seed: x}\nFOO: 1\n",
            mace="GENERAL: {sed: 1}\n",
            geometry="atom 0 0 0 Q\n",
            control="MD_run 1\n",
        )
    )
    assert len(found) == 8
    for name in (
        "active_learning_settings.yaml",
        "mace_settings.yaml",
        "geometry.in",
        "control.in",
    ):
        assert any(name in problem for problem in found)


def test_a_problem_in_one_file_does_not_hide_those_of_another(folder, aims):
    found = problems_of(folder(al=ASI.replace("{", "{n_samples: 0, ")))
    assert len(found) == 2
    assert found[1].startswith("control.in is missing")


def test_missing_files_are_named(folder):
    found = problems_of(folder(al=None, geometry=None))
    assert len(found) == 2
    assert all("is missing in" in problem for problem in found)


def test_a_folder_without_any_is_likely_the_wrong_one(folder):
    (found,) = problems_of(folder(al=None, mace=None, geometry=None))
    assert "there are no input files" in found
    assert "FHI_AL-init" in found


def test_control_in_is_required_by_fhi_aims_only(folder, aims):
    (found,) = problems_of(folder(al=ASI))
    assert found.startswith("control.in is missing")


def test_missing_species_file(folder, aims):
    (aims / "species" / "08_O_default").unlink()
    (found,) = problems_of(folder(al=ASI, control=CONTROL))
    assert "species O" in found
    assert "08_O_default" in found


def test_stress_of_a_crystal_must_not_be_switched_off(folder, aims):
    control = "xc pbe\ncompute_analytical_stress .false.\n"
    (found,) = problems_of(folder(al=ASI, control=control, geometry=SILICON))
    assert "control.in, line 2" in found


def test_files_that_are_no_text(folder):
    directory = folder(al="- a", geometry=None)
    (directory / "mace_settings.yaml").write_bytes(b"\xff\xfe\x00")
    (directory / "geometry.in").mkdir()
    found = problems_of(directory)
    assert len(found) == 3
    assert "expected sections such as" in found[1]


@pytest.mark.parametrize(
    ("rescue", "message"),
    [
        ("[{mixr: linear}]", "mixr is not a keyword of the SCF; did you mean mixer?"),
        ("[{charge: 1}]", "charge is not a keyword of the SCF"),
        ("[{relax_geometry: bfgs 0.01}]", "relax_geometry is not a keyword of the SCF"),
        ('[{mixer: ""}]', "expected the rest of a line"),
        ("mixer", "scf_rescue"),
    ],
)
def test_a_rescue_that_is_none_is_refused(folder, aims, rescue, message):
    al = f"{ASI}REFERENCE: {{engine: asi, scf_rescue: {rescue}}}\n"
    (problem,) = problems_of(folder(al=al, control=CONTROL))
    assert message in problem


@pytest.mark.parametrize(
    ("rescue", "message"),
    [
        ("[{max_iteration: 500}]", "did you mean max_iterations?"),
        ("[{max_iterations: 2.5}]", "whole number"),
        ("[{mixer_damping: 2}]", "at most 1"),
        ("[{accuracy: -1}]", "expected a number > 0"),
    ],
)
def test_a_rescue_of_xtb_is_checked(folder, rescue, message):
    (problem,) = problems_of(folder(al=f"REFERENCE: {{engine: xtb, scf_rescue: {rescue}}}\n"))
    assert message in problem


def test_a_model_has_no_scf_to_rescue(folder):
    (problem,) = problems_of(folder(al="REFERENCE: {engine: mlff, model: so3lr, scf_rescue: []}\n"))
    assert "scf_rescue is not a setting" in problem


def test_stage_two_needs_the_energy(folder):
    (problem,) = problems_of(folder(mace="TRAINING: {loss: forces_only, swa: true}\n"))
    assert "swa can't be had with `loss: forces_only`" in problem


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ("atom 0 0 0 O\natom 0 0 0.4 H\n", "atoms 1 (O) and 2 (H) are 0.400 Å apart"),
        ("atom 0 0 0 O\natom 0 0 0.96 H\natom 0 0 20 H\n", "atom 3 (H) is 19.0 Å away"),
        (SILICON.replace("0.25 0.25 0.25", "0.95 0.95 0.95"), "(of a periodic image) are 0.4"),
    ],
)
def test_a_geometry_that_makes_no_sense_is_refused(folder, geometry, message):
    (problem,) = problems_of(folder(geometry=geometry))
    assert message in problem
    assert "MD." in problem


def test_an_atom_alone_makes_sense(folder):
    assert len(load_inputs(folder(geometry="atom 0 0 0 O\n")).structure) == 1
