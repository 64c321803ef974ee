from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule
from reference_cases import rattled

from fhi_al.atoms.structure import Structure
from fhi_al.errors import InputError
from fhi_al.reference.mlff import MlffEngine, find_device
from fhi_al.reference.so3lr import SO3LR_ELEMENTS
from fhi_al.settings.control_in import parse_control
from fhi_al.settings.reference import MlffSettings
from fhi_al.testing import check_engine

ELEMENTS = ("C", "H", "O", "Si")


@pytest.fixture
def model_file(tmp_path, tiny_models) -> str:
    path = tmp_path / "teacher.model"
    torch.save(tiny_models[0], path)
    return str(path)


def start(tmp_path, model: str, control=None, elements=ELEMENTS, **settings) -> MlffEngine:
    mlff = MlffSettings.model_construct(**{"model": model, "device": "cpu", **settings})
    return MlffEngine(mlff, control, elements, None, tmp_path)


def digest(model: str, control=None, **settings) -> str:
    mlff = MlffSettings.model_construct(**{"model": model, "device": "cpu", **settings})
    return MlffEngine.digest(mlff, control, ELEMENTS)


def test_mace_keeps_the_contract(tmp_path, model_file, ethanol, silicon):
    engine = start(tmp_path, model_file)
    check_engine(engine, [ethanol, silicon], digest(model_file))


def test_so3lr_keeps_the_contract(tmp_path, ethanol):
    engine = start(tmp_path, "so3lr", elements=["C", "H", "O"])
    crystal = rattled(molecule("CH3OH", cell=[5, 5.5, 6], pbc=True))
    check_engine(engine, [ethanol, crystal], digest("so3lr"), step=2e-3)


def test_mace_brings_its_own_atomic_energies(tmp_path, model_file):
    engine = start(tmp_path, model_file, elements=["Si", "H"])
    assert engine.atomic_energies() == {"H": -1.0, "Si": -4.0}


def test_so3lr_brings_its_own_atomic_energies(tmp_path):
    energies = start(tmp_path, "so3lr", elements=["H", "O"]).atomic_energies()
    assert set(energies) == {"H", "O"}
    assert np.isfinite(list(energies.values())).all()
    assert min(energies.values()) < -100


def test_so3lr_knows_the_charge(tmp_path, water):
    engine = start(tmp_path, "so3lr", elements=["H", "O"])
    cation = start(tmp_path, "so3lr", parse_control("charge 1"), elements=["H", "O"])
    charges = np.array([0.0, 0.0, 1.0])
    charged = Structure(water.numbers, water.positions, charges=charges)
    # The same positions in between: nothing is taken from the calculation before.
    neutral = engine.label(water).energy
    assert engine.label(charged).energy == pytest.approx(cation.label(water).energy, abs=1e-9)
    assert abs(engine.label(charged).energy - neutral) > 0.1
    assert engine.label(water).energy == neutral


def test_unknown_elements_are_an_input_error(tmp_path, model_file):
    with pytest.raises(InputError, match=r"doesn't know N, U; it knows H, C, O, Si"):
        start(tmp_path, model_file, elements=["H", "U", "N"])
    with pytest.raises(InputError, match=r"doesn't know Si; it knows H, C, N, O"):
        start(tmp_path, "so3lr")
    assert len(SO3LR_ELEMENTS) == 8


def test_a_file_that_is_no_model_is_an_input_error(tmp_path):
    text, tensors = tmp_path / "text.model", tmp_path / "tensors.model"
    text.write_text("not a model")
    torch.save({"weights": torch.zeros(3)}, tensors)
    for path in (text, tensors):
        with pytest.raises(InputError, match="can't be used as a MACE model"):
            start(tmp_path, str(path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_input_error():
    assert find_device("auto") == "cpu"
    with pytest.raises(InputError, match="cuda is asked for"):
        find_device("cuda")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_leaves_the_process_as_it_was(tmp_path, model_file, water, capfd, dtype):
    before = torch.get_default_dtype()
    for model in ("so3lr", model_file):
        label = start(tmp_path, model, elements=["H", "O"], dtype=dtype).label(water)
        assert torch.get_default_dtype() == before
        # Rounded numbers show which precision was at work.
        rounded = np.array_equal(label.forces, label.forces.astype(np.float32))
        assert rounded == (dtype == "float32")
    assert capfd.readouterr() == ("", "")


def test_the_digest_names_what_decides_a_label(tmp_path, model_file, tiny_models):
    other, copy = tmp_path / "other.model", tmp_path / "copy.model"
    torch.save(tiny_models[1], other)
    copy.write_bytes((tmp_path / "teacher.model").read_bytes())
    others = {
        digest("so3lr"),
        digest(model_file),
        digest(str(other)),
        digest(model_file, dtype="float32"),
        digest(model_file, parse_control("charge 1")),
    }
    assert len(others) == 5
    assert digest(model_file) == digest(str(copy), device="cuda")
