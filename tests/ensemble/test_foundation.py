"""Pretrained models, without any network."""

import sys
from urllib.error import URLError

import numpy as np
import pytest
import torch
from ensemble_runs import crystals
from mace.calculators import foundations_models

from fhi_al.atoms.batch import Batch
from fhi_al.errors import InputError
from fhi_al.handlers.foundation import foundation_driver


def sampling(**settings):
    return {"ACTIVE_LEARNING": settings}


def forces_of(driver, folder) -> np.ndarray:
    batch = Batch.from_structures([folder.inputs.structure])
    return driver.predict(batch).forces[0].numpy()


def test_a_mace_file(make_folder, tmp_path, tiny_mace):
    model = tiny_mace(0)
    torch.save(model, tmp_path / "mine.model")
    folder = make_folder(active=sampling(initial_sampling=str(tmp_path / "mine.model")))
    forces = forces_of(foundation_driver(folder.inputs, "cpu"), folder)
    assert np.abs(forces).max() > 0.1
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-4)


def test_a_mace_file_that_lacks_an_element(make_folder, tmp_path, tiny_mace):
    model = tiny_mace(0, atomic_numbers=[1, 6, 7, 14])
    torch.save(model, tmp_path / "mine.model")
    folder = make_folder(active=sampling(initial_sampling=str(tmp_path / "mine.model")))
    with pytest.raises(InputError, match=r"mine\.model doesn't know .*\[8\]"):
        foundation_driver(folder.inputs, "cpu")


def test_mace_mp0_from_the_cache(make_folder, tmp_path, tiny_mace, monkeypatch):
    """A tiny model stands where mace-torch keeps the downloaded one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    url = foundations_models.mace_mp_urls["small"]
    name = "".join(c for c in url.rsplit("/", 1)[1] if c.isalnum() or c == "_")
    (tmp_path / "mace").mkdir()
    torch.save(tiny_mace(0), tmp_path / "mace" / name)
    folder = make_folder(active=sampling(initial_sampling="mace-mp0"))
    assert np.isfinite(forces_of(foundation_driver(folder.inputs, "cpu"), folder)).all()


def test_mace_mp0_without_network_and_cache(make_folder, tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(foundations_models, "_urlretrieve_with_timeout", no_network)
    folder = make_folder(
        active=sampling(initial_sampling="mace-mp0", initial_foundational_size="large")
    )
    with pytest.raises(InputError) as caught:
        foundation_driver(folder.inputs, "cpu")
    sentence = str(caught.value)
    for part in ("mace-mp0 (large)", str(tmp_path), "no route to host", "so3lr", "perturb"):
        assert part in sentence


def test_so3lr_without_the_package(make_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "so3krates_torch.calculator.so3", None)
    folder = make_folder(active=sampling(initial_sampling="so3lr"))
    with pytest.raises(InputError, match=r"pip install fhi_al\[so3lr\]"):
        foundation_driver(folder.inputs, "cpu")


def test_so3lr(make_folder, capsys):
    """Ethanol near its equilibrium: forces that are the derivative of the energy."""
    pytest.importorskip("so3krates_torch")
    folder = make_folder(active=sampling(initial_sampling="so3lr"))
    driver = foundation_driver(folder.inputs, "cpu")
    assert torch.get_default_dtype() == torch.float32
    atoms = folder.inputs.structure.to_atoms()
    forces = forces_of(driver, folder)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-2)
    step = 0.02
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 0] += sign * step
        moved.calc = driver.calculator
        energies.append(moved.get_potential_energy())
    # float32 energies of -1500 eV have four decimals.
    assert (energies[1] - energies[0]) / (2 * step) == pytest.approx(forces[1, 0], abs=0.1)
    assert capsys.readouterr().out == ""


def test_so3lr_knows_the_charge(make_folder):
    pytest.importorskip("so3krates_torch")
    neutral = make_folder(active=sampling(initial_sampling="so3lr"), name="neutral")
    charged = make_folder(
        active=sampling(initial_sampling="so3lr"), name="charged", control="charge 1.0\n"
    )
    forces = [
        forces_of(foundation_driver(folder.inputs, "cpu"), folder) for folder in (neutral, charged)
    ]
    assert np.abs(forces[0] - forces[1]).max() > 0.05


def test_so3lr_is_not_asked_for_metals(make_folder):
    folder = make_folder(active=sampling(initial_sampling="so3lr"), labels=crystals())
    with pytest.raises(InputError, match=r"so3lr was trained on H, .*has Cu, Au"):
        foundation_driver(folder.inputs, "cpu")
