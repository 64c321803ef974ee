"""The examples as they are, but smaller, from the command to a model that ASE can use."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.io import read
from asi_library.build import compile_library
from cli.cli_runs import succeed, summary

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MACE_FILE, AL_FILE = "mace_settings.yaml", "active_learning_settings.yaml"
INPUTS = ("control.in", "geometry.in", MACE_FILE, AL_FILE)

# A committee that trains in seconds, and a run that goes through all stages.
SMALLER: dict[str, dict[str, dict[str, Any]]] = {
    MACE_FILE: {
        "ARCHITECTURE": {"num_channels": 4, "max_ell": 2, "r_max": 3.5, "correlation": 2},
        # With more weights averaged than there are steps the errors would say nothing.
        "TRAINING": {"ema_decay": 0.8},
    },
    AL_FILE: {
        "ACTIVE_LEARNING": {
            "desired_acc": 0.001,
            "ensemble_size": 2,
            "num_trajectories": 2,
            "n_samples": 3,
            "skip_step_initial": 4,
            "max_initial_set_size": 6,
            "initial_intermediate_epochs": 4,
            "skip_step_mlff": 2,
            "uncertainty_warmup": 4,
            "max_set_size": 5,
            "max_MD_steps": 40,
            "max_epochs_worker": 2,
            "intermediate_epochs": 2,
            "max_final_epochs": 4,
        }
    },
}


def copied(
    name: str, target: Path, changes: Mapping[str, Mapping[str, Mapping[str, Any]]] = SMALLER
) -> Path:
    """Copy an example, with other values in its YAML files."""
    directory = target / name
    directory.mkdir()
    for file in INPUTS:
        shutil.copy(EXAMPLES / name / file, directory)
    for file, sections in changes.items():
        data = yaml.safe_load((directory / file).read_text())
        for section, values in sections.items():
            data[section] = {**data.get(section, {}), **values}
        (directory / file).write_text(yaml.safe_dump(data))
    return directory


def check_results(directory: Path) -> list[Atoms]:
    """See that the run went through all stages and that its errors are those of its model.

    Returns:
        The labels that the models were trained on.
    """
    from mace.calculators import MACECalculator

    result = summary(directory)
    assert [cost["stage"] for cost in result["costs"]][-3:] == [
        "initial_dataset",
        "active_learning",
        "convergence",
    ]
    train = list(read(directory / "data" / "train.xyz", ":"))
    valid = list(read(directory / "data" / "valid.xyz", ":"))
    assert len(train) + len(valid) == result["n_labels"]
    assert any(atoms.info["fhi_al_purpose"] == "candidate" for atoms in train + valid)

    (model,) = (directory / "model").glob("*.model")
    calculator = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float32")
    errors = []
    for atoms in valid:
        true = atoms.arrays["REF_forces"]
        atoms.calc = calculator
        errors.append(np.abs(atoms.get_forces() - true).ravel())
    member = f"member {model.stem.rpartition('_')[2]}"
    reported = {error["who"]: error["force_mae"] for error in result["errors"]}
    assert np.mean(np.concatenate(errors)) == pytest.approx(reported[member], rel=1e-3)
    return train


def check_xtb(train: list[Atoms]) -> None:
    """Compare labels with those that tblite's own ASE calculator gives."""
    from tblite.ase import TBLite

    for atoms in train:
        referee = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        referee.calc = TBLite(method="GFN2-xTB", verbosity=0)
        energy = referee.get_potential_energy()
        assert atoms.info["REF_energy"] == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], referee.get_forces(), atol=1e-3)
        if atoms.pbc.any():
            np.testing.assert_allclose(atoms.info["REF_stress"], referee.get_stress(), atol=1e-4)


@pytest.mark.parametrize("file", INPUTS)
@pytest.mark.parametrize("name", ["ethanol", "silicon", "water-pyscf", "water-asi"])
def test_inputs_explain_themselves(name: str, file: str) -> None:
    assert (EXAMPLES / name / file).read_text().startswith("#")


def test_ethanol(tmp_path: Path) -> None:
    directory = copied("ethanol", tmp_path)
    succeed("FHI_AL", directory, ranks=2)
    train = check_results(directory)
    check_xtb(train)


def test_silicon(tmp_path: Path) -> None:
    directory = copied("silicon", tmp_path)
    succeed("FHI_AL", directory)
    train = check_results(directory)
    assert all("REF_stress" in atoms.info for atoms in train)
    check_xtb(train)


def test_water_pyscf(tmp_path: Path) -> None:
    from ase.units import Bohr, Hartree
    from pyscf import dft, gto

    directory = copied("water-pyscf", tmp_path)
    succeed("FHI_AL", directory)
    atoms = check_results(directory)[-1]

    molecule = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="def2-svp", verbose=0
    )
    pbe = dft.RKS(molecule, xc="pbe").run(conv_tol=1e-10)
    assert atoms.info["REF_energy"] == pytest.approx(pbe.e_tot * Hartree, abs=1e-3)
    forces = -pbe.nuc_grad_method().set(grid_response=True).kernel() * Hartree / Bohr
    np.testing.assert_allclose(atoms.arrays["REF_forces"], forces, atol=2e-3)


def test_water_asi(tmp_path: Path) -> None:
    directory = copied("water-asi", tmp_path)
    library = yaml.safe_load((directory / AL_FILE).read_text())["REFERENCE"]["library"]
    compile_library(directory / library)
    calls = tmp_path / "calls"
    control = directory / "control.in"
    control.write_text(f"toy_call_log {calls}\n{control.read_text()}")

    succeed("FHI_AL", directory, ranks=3)
    check_results(directory)
    counted = sum(cost["reference_calls"] for cost in summary(directory)["costs"])
    assert counted == len(calls.read_text().splitlines())
