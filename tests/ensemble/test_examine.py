"""`FHI_AL-test-ensemble` against MACE's own calculator and numpy."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from mace.calculators import MACECalculator

from fhi_al.cli.test_ensemble import main
from fhi_al.ensemble.examine import predict_labels
from fhi_al.ensemble.frames import Names, read_labels
from fhi_al.errors import InputError

COMMAND = Path(sysconfig.get_path("scripts")) / "FHI_AL-test-ensemble"


@pytest.fixture
def models(tiny_models, tmp_path) -> list[Path]:
    """Three model files; the last in float32."""
    paths = [tmp_path / f"tiny_{index}.model" for index in range(3)]
    tiny_models[2].float()
    for path, model in zip(paths, tiny_models, strict=True):
        torch.save(model, path)
    return paths


@pytest.fixture
def frames(ethanol, silicon) -> list[Atoms]:
    """Molecules, and a crystal with a stress; the numbers of the reference are made up."""
    chance = np.random.default_rng(5)
    found = []
    for index, atoms in enumerate([ethanol, silicon, ethanol, silicon, silicon]):
        atoms = atoms.copy()
        atoms.rattle(0.02, seed=index)
        atoms.info["REF_energy"] = chance.normal()
        atoms.arrays["REF_forces"] = chance.normal(size=(len(atoms), 3))
        if atoms.pbc.all() and index != 3:
            atoms.info["REF_stress"] = chance.normal(scale=0.01, size=6)
        found.append(atoms)
    return found


def by_mace(path: Path, frames: list[Atoms]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deviations per atom, per force component, and of the stress where there is one."""
    before = torch.get_default_dtype()
    try:
        calculator = MACECalculator(str(path), device="cpu", default_dtype="float64")
        energies, forces, stress = [], [], []
        for atoms in frames:
            atoms = atoms.copy()
            atoms.calc = calculator
            off = atoms.get_potential_energy() - atoms.info["REF_energy"]
            energies.append(off / len(atoms))
            forces.append(atoms.get_forces() - atoms.arrays["REF_forces"])
            if "REF_stress" in atoms.info:
                stress.append(atoms.get_stress() - atoms.info["REF_stress"])
        return np.array(energies), np.concatenate(forces), np.array(stress)
    finally:
        torch.set_default_dtype(before)


def check(score: dict, off: np.ndarray) -> None:
    assert score["n"] == off.size
    assert score["mae"] == pytest.approx(np.abs(off).mean(), rel=1e-6)
    assert score["rmse"] == pytest.approx(np.sqrt((off**2).mean()), rel=1e-6)
    assert score["max"] == pytest.approx(np.abs(off).max(), rel=1e-6)


def test_errors_are_those_of_an_independent_calculation(models, frames, tmp_path):
    data, out = tmp_path / "data.xyz", tmp_path / "out"
    ase.io.write(data, frames, format="extxyz")
    frames = ase.io.read(data, ":")
    done = subprocess.run(
        [COMMAND, *models, "--data", data, "--out", out, "--dtype", "float64"],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    told = json.loads((out / "errors.json").read_text())
    found = {(s["who"], s["species"], s["system"]): s for s in told["scores"]}
    off = [by_mace(path, frames) for path in models]
    mean = [np.mean(values, axis=0) for values in zip(*off, strict=True)]
    for who, values in (("tiny_0", off[0]), ("tiny_2", off[2]), ("committee", mean)):
        for quantity, deviation in zip(("energy", "forces", "stress"), values, strict=True):
            check(found[who, "", ""][quantity], deviation)
    symbols = np.concatenate([atoms.get_chemical_symbols() for atoms in frames])
    for symbol in ("H", "C", "O", "Si"):
        check(found["committee", symbol, ""]["forces"], mean[1][symbols == symbol])
    crystal = np.repeat([atoms.pbc.all() for atoms in frames], [len(atoms) for atoms in frames])
    check(found["committee", "", "Si2"]["forces"], mean[1][crystal])
    check(found["committee", "", "C2H6O"]["energy"], mean[0][[0, 2]])
    spread = np.sqrt(np.var([values[1] for values in off], axis=0).mean(axis=1))
    error = np.sqrt((mean[1] ** 2).mean(axis=1))
    ratio = np.sqrt((error**2).mean() / (spread**2).mean())
    assert told["calibration"]["error_over_spread"] == pytest.approx(ratio, rel=1e-6)
    assert f"{ratio:.2f} times the members' spread" in done.stdout
    assert f"{1000 * np.abs(mean[1]).mean():.3g}" in done.stdout
    names = {path.name for path in (out / "figures").iterdir()}
    assert {f"{n}.png" for n in ("parity", "calibration", "species")} <= names
    assert "tiny_1" in (out / "report.html").read_text()


def test_each_model_keeps_its_precision(models, frames, tmp_path):
    data = tmp_path / "data.xyz"
    ase.io.write(data, frames, format="extxyz")
    labels, _ = read_labels(data)
    own = predict_labels(models, labels, batch_size=2)
    double = predict_labels(models, labels, dtype="float64", batch_size=5)
    np.testing.assert_allclose(own.forces[:2], double.forces[:2], atol=1e-12)
    difference = np.abs(own.forces[2] - double.forces[2]).max()
    assert 1e-9 < difference < 1e-4


def test_names_of_the_users_data(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.info |= {"dft_energy": 2.0, "REF_energy": 1.0}
    atoms.arrays["dft_forces"] = np.full((4, 3), 0.5)
    path = tmp_path / "data.xyz"
    atoms.get_forces()
    ase.io.write(path, atoms, format="extxyz")
    (label,), _ = read_labels(path, Names("dft_energy", "dft_forces"))
    assert label.energy == 2.0
    assert (label.forces == 0.5).all()
    assert label.stress is None
    (label,), _ = read_labels(path)
    assert label.energy == 1.0
    assert np.abs(label.forces).max() < 1e-8  # EMT's own
    (label,), _ = read_labels(path, Names("energy", "forces"))  # as ASE calls them
    assert label.energy == pytest.approx(atoms.get_potential_energy())
    with pytest.raises(InputError, match=r"has no energy; expected finite e \(eV\).*dft_energy"):
        read_labels(path, Names("e", "dft_forces"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing.model"], "nothing.model: there is no such file"),
        (["data.xyz"], "data.xyz can't be loaded as a MACE model"),
        (["tiny_0.model", "--forces-key", "f"], "has no forces"),
        (["tiny_0.model", "--device", "abacus"], "'abacus' can't be used"),
    ],
)
def test_mistakes_are_told_in_words(models, frames, tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    ase.io.write("data.xyz", frames, format="extxyz")
    assert main([*words, "--data", "data.xyz"]) == 2
    assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--data", "data.xyz", "--batch-size", "0"])
    assert "--batch-size: got 0, expected 1 or more" in capsys.readouterr().err


def test_an_element_that_a_model_does_not_know(models, tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.get_forces()
    ase.io.write(tmp_path / "data.xyz", atoms, format="extxyz")
    labels, _ = read_labels(tmp_path / "data.xyz")
    with pytest.raises(InputError, match=r"doesn't know the elements Cu .* it knows H C O Si"):
        predict_labels(models[:1], labels)
