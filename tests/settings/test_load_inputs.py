import contextlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from input_texts import SILICON, SMALLEST, WATER

from fhi_al.errors import InputError
from fhi_al.reference.engine import ENGINES
from fhi_al.settings import load_inputs, resolved_yaml
from fhi_al.settings.base import Section
from fhi_al.settings.mace import Architecture, Interaction, Training
from fhi_al.settings.reference import (
    REFERENCE_SETTINGS,
    AseSettings,
    AsiSettings,
    MlffSettings,
    XtbSettings,
)

DATA = Path(__file__).parent / "data"
CONTROL = "xc pbe\n"
ASI = "ACTIVE_LEARNING: {aims_lib_path: libaims.so, species_dir: species}\n"


def problems_of(directory: Path) -> list[str]:
    with pytest.raises(InputError) as error:
        load_inputs(directory)
    assert error.value.exit_code == 2
    return error.value.problems


def test_three_lines_are_enough(folder):
    inputs = load_inputs(folder())
    assert isinstance(inputs.reference, XtbSettings)
    assert inputs.al.active_learning.initial_sampling == "perturb"
    assert [settings.temperature_K for settings in inputs.al.md] == [(300,)]
    assert inputs.warnings == ()
    assert inputs.control is None
    assert inputs.elements == ("H", "O")
    assert not inputs.deterministic
    assert inputs.directory.is_absolute()
    assert inputs.al.active_learning.dataset_dir == inputs.directory / "data"
    assert inputs.mace.general.log_dir == inputs.directory


def test_inputs_can_be_pickled_and_not_changed(folder):
    inputs = load_inputs(folder())
    again = pickle.loads(pickle.dumps(inputs))
    assert (again.mace, again.al) == (inputs.mace, inputs.al)
    np.testing.assert_array_equal(again.structure.positions, inputs.structure.positions)
    with pytest.raises(ValueError, match="frozen"):
        inputs.al.md[0].seed = (2,)


def test_import_is_light():
    script = (
        "import sys, fhi_al.settings; "
        "print([m for m in ('torch', 'mace', 'ase', 'mpi4py', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- the manual --------------------------------------------------------------------------------


def manual_keys() -> list[tuple[str, str, str]]:
    lines = (Path(__file__).parent / "manual_keys.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return [(file, section, key) for file, section, *keys in rows for key in keys]


SPECIAL = {
    "atomic_energies": {"H": -13.6, "O": -2000.0},
    "radial_MLP": [16],
    "config_type_weights": {"Default": 2.0},
    "lambda": 3.0,
    "c_x": 0.25,
    "timestep": 0.25,
    "friction": 0.02,
    "species_dir": "species",
    "aims_lib_path": "libaims.so",
    "initial_sampling": "aimd",
}
NEW_NAMES = {
    "lambda": "initial_accuracy_factor",
    "timestep": "timestep_fs",
    "friction": "friction_per_fs",
    "temperature": "temperature_K",
    "c_x": "threshold_factor",
}


def another_value(default: object, choices: tuple[object, ...]) -> object:
    """A valid value that is not the default."""
    if choices:
        return next((choice for choice in choices if choice != default), choices[0])
    if isinstance(default, tuple):
        return another_value(default[0], ())
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 2
    if isinstance(default, float):
        return default / 2
    return "8x0e" if default == "16x0e" else "other"


@pytest.mark.parametrize(("file", "section", "key"), manual_keys())
def test_every_key_of_the_manual_lands_in_an_attribute(folder, file, section, key):
    def attribute(inputs):
        where = inputs.mace if file == "mace" else inputs.al
        part = getattr(where, section.lower())
        part = part[0] if section == "MD" else part
        return part, NEW_NAMES.get(key, key)

    part, name = attribute(load_inputs(folder()))
    annotation = type(part).model_fields[name].annotation
    choices = get_args(annotation) if "Literal" in str(annotation) else ()
    value = SPECIAL.get(key, another_value(getattr(part, name), choices))

    text = yaml.safe_dump({section: {key: value}})
    if file == "mace":
        inputs = load_inputs(folder(mace=text))
    else:
        inputs = load_inputs(folder(al=text + "REFERENCE: {engine: xtb}\n"))
    part, name = attribute(inputs)
    got = getattr(part, name)
    if key == "c_x":
        value = 0.75
    if isinstance(got, Path):
        got = got.relative_to(inputs.directory)
        value = Path(value)
    if isinstance(got, tuple) and not isinstance(value, list):
        value = [value]
    assert got == (tuple(value) if isinstance(value, list) else value)
    assert part.given(name)


def test_the_key_list_is_the_manuals():
    manual = Path(__file__).parents[3] / "shared" / "manual.md"
    if not manual.exists():  # outside the project's workplace manual_keys.txt stands for it
        assert len(manual_keys()) == 90
        return
    text = manual.read_text()
    text = text[text.index("### MACE settings") : text.index("## Folders & Files")]
    found = set()
    for line in text.splitlines():
        words = line.strip()
        if words.startswith("- **"):
            found.add(words.split("**")[1])
        elif words.startswith("*(") and words.endswith(")*"):
            found.update(words[2:-2].split(", "))
    assert found == {key for _, _, key in manual_keys()}


@pytest.mark.parametrize(("name", "geometry"), [("molecule", WATER), ("crystal", SILICON)])
def test_files_in_the_terms_of_the_original_program_load(folder, aims, monkeypatch, name, geometry):
    monkeypatch.setenv("FHI_AL_TEST_SPECIES", str(aims / "species"))
    texts = [(DATA / f"{kind}_{name}.yaml").read_text() for kind in ("al", "mace")]
    inputs = load_inputs(folder(*texts, geometry=geometry, control=CONTROL))
    assert isinstance(inputs.reference, AsiSettings)
    assert inputs.reference.library == aims / "libaims.so"
    assert inputs.reference.species_dir == aims / "species"
    if name == "molecule":
        assert inputs.al.active_learning.threshold_factor == pytest.approx(0.8)
        assert inputs.al.active_learning.initial_accuracy_factor == 2.5
        assert inputs.al.md[0].friction_per_fs == 0.001
        assert inputs.mace.training.weight_decay == 5e-7
        assert inputs.mace.architecture.atomic_energies == {
            "H": -13.587,
            "C": -1029.2,
            "O": -2043.4,
        }
        assert "1 + c_x" in inputs.warnings[0]
        assert inputs.convergence.eval_interval == 5  # valid_skip wins over eval_interval
    else:
        assert inputs.with_stress
        assert inputs.mace.architecture.gate == "None"
        assert inputs.mace.misc.keep_checkpoints == 1
        assert inputs.mace.training.clip_grad is None


def test_choices_are_those_of_mace():
    from mace import modules
    from mace.tools.arg_parser import build_default_arg_parser

    actions = {action.dest: action for action in build_default_arg_parser()._actions}
    assert set(get_args(Interaction)) == set(modules.interaction_classes)
    for kind, keys in (
        (Architecture, ("interaction", "interaction_first", "radial_type", "gate")),
        (Training, ("optimizer", "scaling")),
    ):
        for key in keys:
            assert set(get_args(kind.model_fields[key].annotation)) == set(actions[key].choices)
    assert set(get_args(Architecture.model_fields["model"].annotation)) < set(
        actions["model"].choices
    )
    # Not the losses of dipoles: there are none in the data.
    assert {choice for choice in actions["loss"].choices if "dipole" not in choice} == set(
        get_args(Training.model_fields["loss"].annotation)
    )
    for key in ("num_radial_basis", "max_ell", "correlation", "MLP_irreps", "lr", "ema_decay"):
        kind = Architecture if key in Architecture.model_fields else Training
        assert kind.model_fields[key].default == actions[key].default


# --- problems ----------------------------------------------------------------------------------


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
    found = problems_of(folder(al=None, mace=None, geometry=None))
    assert len(found) == 3
    assert all("is missing in" in problem for problem in found)


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


# --- what is in force --------------------------------------------------------------------------


def test_training_keys_act_in_the_convergence_stage(folder):
    mace = (
        "TRAINING: {patience: 7, max_num_epochs: 70, eval_interval: 3, swa: true, "
        "valid_fraction: 0.2}"
    )
    inputs = load_inputs(folder(mace=mace))
    convergence = inputs.convergence
    assert (convergence.patience, convergence.max_epochs) == (7, 70)
    assert (convergence.eval_interval, convergence.swa) == (3, True)
    assert inputs.valid_ratio == 0.2
    assert inputs.al.active_learning.valid_skip == 1
    assert inputs.warnings == ()


def test_active_learning_keys_win_with_a_warning(folder):
    mace = "TRAINING: {patience: 7, max_num_epochs: 70, eval_interval: 3, valid_fraction: 0.2}"
    al = SMALLEST.replace(
        "perturb", "perturb, patience: 8, max_final_epochs: 80, valid_skip: 4, valid_ratio: 0.3"
    )
    inputs = load_inputs(folder(al=al, mace=mace))
    convergence = inputs.convergence
    assert (convergence.patience, convergence.max_epochs) == (8, 80)
    assert convergence.eval_interval == 4
    assert inputs.valid_ratio == 0.3
    assert len(inputs.warnings) == 4
    assert all("are both given" in warning for warning in inputs.warnings)


def test_defaults_agree_where_two_files_have_the_same_setting(folder):
    inputs = load_inputs(folder())
    training, active = inputs.mace.training, inputs.al.active_learning
    for name, other in (
        ("patience", "patience"),
        ("max_num_epochs", "max_final_epochs"),
        ("valid_fraction", "valid_ratio"),
        ("eval_interval", "valid_skip"),
    ):
        default = Training.model_fields[name].default
        assert default == type(active).model_fields[other].default == getattr(training, name)


@pytest.mark.parametrize("how", ["PARALLEL: {asynchronous: false}", "MISC: {deterministic: true}"])
def test_deterministic_runs_use_float64_and_fresh_densities(folder, aims, how):
    mace = "GENERAL: {default_dtype: float32}"
    inputs = load_inputs(folder(al=ASI + how, mace=mace, control=CONTROL))
    assert inputs.deterministic
    assert inputs.mace.general.default_dtype == "float64"
    assert inputs.reference.reuse_density is False
    assert any("deterministic runs use float64" in warning for warning in inputs.warnings)


def test_overlap_alone_can_be_switched_off(folder):
    al = "PARALLEL: {asynchronous: false}\nMISC: {deterministic: false}"
    inputs = load_inputs(folder(al=f"REFERENCE: {{engine: xtb}}\n{al}"))
    assert not inputs.deterministic
    assert not inputs.al.parallel.asynchronous
    assert inputs.mace.general.default_dtype == "float32"


def test_what_has_no_effect_is_said(folder):
    inputs = load_inputs(
        folder(
            al="REFERENCE: {engine: xtb}\n"
            "MISC: {create_restart: false}\n"
            "MD: {stat_ensemble: nve, friction: 0.1}\n"
            "ACTIVE_LEARNING: {initial_sampling: aimd, perturb_strain: 0.1, species_dir: x}\n",
            mace="MISC: {restart_latest: false}",
            control="xc pbe\ncharge 0\nspecies H\n",
        )
    )
    said = "\n".join(inputs.warnings)
    for name in ("restart_latest", "create_restart", "friction", "perturb_strain", "species_dir"):
        assert name in said
    assert "not used: xc, species H." in said
    assert len(inputs.warnings) == 6


def test_other_engines_take_charge_and_spin(folder):
    control = "charge 1\nspin collinear\nfixed_spin_moment 1\n"
    inputs = load_inputs(folder(control=control))
    assert (inputs.control.charge, inputs.control.unpaired) == (1, 1)
    assert inputs.warnings == ()

    ase = "REFERENCE: {engine: ase, calculator: pyscf.pyscf_ase.PySCF%s}"
    found = problems_of(folder(al=ase % "", control=control))
    assert len(found) == 2
    assert "REFERENCE.charge is missing" in found[0]
    inputs = load_inputs(folder(al=ase % ", charge: charge, spin: spin", control=control))
    assert isinstance(inputs.reference, AseSettings)

    (folder() / "teacher.model").touch()
    mlff = "REFERENCE: {engine: mlff, model: %s}"
    assert "knows of neither" in problems_of(folder(al=mlff % "teacher.model", control=control))[0]
    inputs = load_inputs(folder(al=mlff % "so3lr", control=control))
    assert isinstance(inputs.reference, MlffSettings)


def test_half_an_unpaired_electron(folder):
    control = "spin collinear\nfixed_spin_moment 0.5\n"
    assert "whole number" in problems_of(folder(control=control))[0]


def test_fhi_aims_by_section_takes_its_paths_from_the_manuals_keys(folder, aims):
    inputs = load_inputs(folder(al=ASI + "REFERENCE: {engine: asi, log: x.log}", control=CONTROL))
    assert inputs.reference == AsiSettings(
        library=aims / "libaims.so", species_dir=aims / "species", log="x.log"
    )


def test_paths_are_relative_to_the_folder_and_expanded(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("FHI_AL_TEST", "/scratch")
    al = SMALLEST.replace("perturb", "perturb, dataset_dir: ~/sets")
    inputs = load_inputs(
        folder(al=al, mace="GENERAL: {log_dir: '${FHI_AL_TEST}/l', model_dir: a/b}")
    )
    assert inputs.al.active_learning.dataset_dir == Path("/home/someone/sets")
    assert inputs.mace.general.log_dir == Path("/scratch/l")
    assert inputs.mace.general.model_dir == tmp_path / "a" / "b"


def test_without_need_of_a_reference(folder):
    assert load_inputs(folder(al=""), need_reference=False).al.reference is None


def test_engines_and_their_settings_have_the_same_names():
    assert set(REFERENCE_SETTINGS) == set(ENGINES)
    for name, kind in REFERENCE_SETTINGS.items():
        assert kind.model_fields["engine"].default == name


def test_every_setting_is_documented():
    sections = Section.__subclasses__()
    assert len(sections) >= 12
    for kind in sections:
        for name, field in kind.model_fields.items():
            assert field.description, f"{kind.__name__}.{name}"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mace": "TRAINING: {eval_interval: 3, patience: 5}\nMISC: {keep_checkpoints: true}"},
        {"al": SMALLEST + "PARALLEL: {asynchronous: false}"},
        {"al": SMALLEST.replace("perturb", "perturb, c_x: 0.3")},
    ],
)
def test_resolved_settings_give_the_same_run(folder, changes):
    inputs = load_inputs(folder(**changes))
    texts = resolved_yaml(inputs)
    assert set(texts) == {"mace_settings.yaml", "active_learning_settings.yaml"}
    again = load_inputs(
        folder(al=texts["active_learning_settings.yaml"], mace=texts["mace_settings.yaml"])
    )
    assert again.convergence == inputs.convergence
    assert again.mace == inputs.mace
    assert again.al == inputs.al


# --- any text ----------------------------------------------------------------------------------

NAMES = sorted({name for _, _, name in manual_keys()} | {"engine", "threshold_factor", "test_set"})
SECTIONS = ["GENERAL", "ARCHITECTURE", "TRAINING", "MISC", "ACTIVE_LEARNING", "MD", "REFERENCE"]
scalar = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["xtb", "asi", "auto", "nvt", "1e-3", "~", "$X", "{", "[1, 2]"])
    | st.dates()
)
value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalar, inner, max_size=3)
)
document = st.dictionaries(
    st.sampled_from(SECTIONS) | scalar,
    st.dictionaries(st.sampled_from(NAMES) | scalar, value, max_size=4) | value,
    max_size=4,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(al=document.map(yaml.safe_dump) | st.text(), mace=document.map(yaml.safe_dump) | st.text())
def test_any_text_is_loaded_or_refused(folder, al, mace):
    directory = folder()
    (directory / "active_learning_settings.yaml").write_bytes(al.encode("utf-8", "replace"))
    (directory / "mace_settings.yaml").write_bytes(mace.encode("utf-8", "replace"))
    with contextlib.suppress(InputError):
        assert load_inputs(directory).al.reference is not None


# --- the rescue ladder -------------------------------------------------------------------------


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


def test_a_rescue_reaches_the_library_as_it_reads_it(folder, aims):
    rescue = "[{}, {sc_iter_limit: 500, adjust_scf: never}, {override_illconditioning: true}]"
    al = f"{ASI}REFERENCE: {{engine: asi, scf_rescue: {rescue}}}\n"
    inputs = load_inputs(folder(al=al, control=CONTROL))
    assert inputs.reference.scf_rescue == (
        {},
        {"sc_iter_limit": "500", "adjust_scf": "never"},
        {"override_illconditioning": ".true."},
    )


def test_a_model_has_no_scf_to_rescue(folder):
    (problem,) = problems_of(folder(al="REFERENCE: {engine: mlff, model: so3lr, scf_rescue: []}\n"))
    assert "scf_rescue is not a setting" in problem


def test_stage_two_needs_the_energy(folder):
    (problem,) = problems_of(folder(mace="TRAINING: {loss: forces_only, swa: true}\n"))
    assert "swa can't be had with `loss: forces_only`" in problem


def test_learning_no_forces_is_no_secret(folder):
    inputs = load_inputs(folder(mace="TRAINING: {forces_weight: 0}\n"))
    assert any("no forces are learned" in warning for warning in inputs.warnings)


# --- a geometry that makes no sense ------------------------------------------------------------


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
