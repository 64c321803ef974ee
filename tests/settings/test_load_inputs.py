import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from input_texts import ASI, CONTROL, SMALLEST, problems_of

from fhi_al.settings import load_inputs, resolved_yaml
from fhi_al.settings.base import Section
from fhi_al.settings.mace import Training
from fhi_al.settings.reference import (
    ENGINES,
    AseSettings,
    AsiSettings,
    MlffSettings,
    XtbSettings,
)


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


def test_limits_of_criteria_that_were_not_chosen_have_no_effect(folder):
    al = (
        "initial_stop_when: [epochs], max_initial_set_size: 30, stop_when: [Trajectories, accuracy]"
        ", max_set_size: 50, converge_stop_when: epochs, patience: 7"
    )
    inputs = load_inputs(folder(al=SMALLEST.replace("perturb", f"perturb, {al}")))
    assert inputs.al.active_learning.stop_when == ("trajectories", "accuracy")
    assert inputs.convergence.patience is None
    assert [warning.split(": ", 1)[1] for warning in inputs.warnings] == [
        "ACTIVE_LEARNING.max_initial_set_size has no effect without `initial_stop_when: set_size`.",
        "ACTIVE_LEARNING.max_set_size has no effect without `stop_when: set_size`.",
    ]


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


def test_what_is_taken_of_control_in_is_said_as_it_is(folder):
    (folder() / "teacher.model").touch()
    said = {
        "xtb": "takes only charge and spin from it; not used: xc.",
        "ase, calculator: a.B": "takes nothing from it; not used: xc.",
        "ase, calculator: a.B, charge: q": "takes only charge from it; not used: xc.",
        "mlff, model: teacher.model": "takes nothing from it; not used: xc.",
    }
    for reference, sentence in said.items():
        inputs = load_inputs(folder(al=f"REFERENCE: {{engine: {reference}}}", control="xc pbe\n"))
        assert sentence in inputs.warnings[-1]


def test_a_slab_is_refused_or_told_of_where_the_engine_knows_none(folder, aims):
    slab = Atoms("OHH", [[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]], cell=[5, 5, 9])
    slab.pbc = (True, True, False)
    write(aims / "slab.xyz", slab, format="extxyz")
    active = "ACTIVE_LEARNING: {initial_sampling: perturb, geometry: slab.xyz%s}\n"
    asi = active % ", aims_lib_path: libaims.so, species_dir: species"
    said = "slab.xyz: it repeats along 2 of its lattice vectors, but the engine"
    found = problems_of(folder(al=asi, control=CONTROL))
    assert len(found) == 1
    assert found[0].startswith(f"{said} asi computes only molecules and crystals; use another")
    inputs = load_inputs(folder(al=f"{active % ''}REFERENCE: {{engine: xtb}}"))
    assert inputs.warnings[0].startswith(f"{said} xtb computes only molecules and crystals, and")
    ase = "REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}"
    assert load_inputs(folder(al=f"{active % ''}{ase}")).warnings == ()


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
    for name, kind in ENGINES.items():
        assert kind.section.model_fields["engine"].default == name


def descendants(kind: type) -> list[type]:
    return [k for child in kind.__subclasses__() for k in (child, *descendants(child))]


def test_every_setting_is_documented():
    sections = descendants(Section)
    assert {kind.section for kind in ENGINES.values()} < set(sections)
    assert len(sections) >= 13
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


# --- the rescue ladder -------------------------------------------------------------------------


def test_a_rescue_reaches_the_library_as_it_reads_it(folder, aims):
    rescue = "[{}, {sc_iter_limit: 500, adjust_scf: never}, {override_illconditioning: true}]"
    al = f"{ASI}REFERENCE: {{engine: asi, scf_rescue: {rescue}}}\n"
    inputs = load_inputs(folder(al=al, control=CONTROL))
    assert inputs.reference.scf_rescue == (
        {},
        {"sc_iter_limit": "500", "adjust_scf": "never"},
        {"override_illconditioning": ".true."},
    )


def test_learning_no_forces_is_no_secret(folder):
    inputs = load_inputs(folder(mace="TRAINING: {forces_weight: 0}\n"))
    assert any("no forces are learned" in warning for warning in inputs.warnings)
