"""The keys of the manual, and the choices of MACE."""

import hashlib
from pathlib import Path
from typing import get_args

import pytest
import yaml
from input_texts import CONTROL, SILICON, WATER, manual_keys

from fhi_al.settings import load_inputs
from fhi_al.settings.base import OneOf
from fhi_al.settings.mace import Architecture, Interaction, Training
from fhi_al.settings.reference import (
    AsiSettings,
)

DATA = Path(__file__).parent / "data"

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


KEYS_OF_THE_MANUAL = "5d2719e38f9d9d5098a5379e637ea0d9127a4b322016f79cc4a1cb768f21fa32"


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
    field = type(part).model_fields[name]
    choices = get_args(field.annotation) if "Literal" in str(field.annotation) else ()
    for metadata in field.metadata:
        choices = tuple(metadata.registry) if isinstance(metadata, OneOf) else choices
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
    """By a hash of the names that the original's manual has in bold, or in lists, as settings."""
    keys = sorted({key for _, _, key in manual_keys()})
    assert len(keys) == 88
    assert hashlib.sha256(" ".join(keys).encode()).hexdigest() == KEYS_OF_THE_MANUAL


def test_files_in_the_terms_of_the_original_program_have_keys_of_the_manual():
    known = {*manual_keys(), ("al", "MD", "temperature")}  # which came after the manual
    files = sorted(DATA.glob("*.yaml"))
    assert len(files) == 4
    used = {
        (path.stem.split("_")[0], section.replace(" ", "_"), key)
        for path in files
        for section, keys in yaml.safe_load(path.read_text()).items()
        for one in (keys if isinstance(keys, list) else [keys])
        for key in one
    }
    assert used <= known
    assert len(used) > 80


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
