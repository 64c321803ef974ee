"""`FHI_AL-init`: input files that work as they are, and a geometry of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.io import read, write
from asi_library.build import SPECIES_DIR, compile_library
from cli_runs import ask, contents, succeed, summary

from fhi_al.atoms.structure import Structure
from fhi_al.cli.templates import TEMPLATES
from fhi_al.settings import load_inputs

# A committee that trains in seconds, and a run that goes through all stages.
SMALLER: dict[str, dict[str, dict[str, Any]]] = {
    "mace_settings.yaml": {
        "ARCHITECTURE": {"num_channels": 4, "max_ell": 2, "r_max": 3.5, "correlation": 2},
        "MISC": {"device": "cpu"},
    },
    "active_learning_settings.yaml": {
        "ACTIVE_LEARNING": {
            "desired_acc": 0.001,
            "ensemble_size": 2,
            "num_trajectories": 2,
            "n_samples": 3,
            "max_initial_set_size": 6,
            "initial_intermediate_epochs": 4,
            "max_initial_epochs": 8,
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


def init(folder: Path, *words: str) -> CompletedProcess[str]:
    """Run the command in a folder."""
    folder.mkdir(exist_ok=True)
    return ask(folder, "FHI_AL-init", *words)


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_names_the_engine_that_is_told(name):
    folder = resources.files("fhi_al.cli") / "templates" / name
    settings = yaml.safe_load((folder / "active_learning_settings.yaml").read_text())
    assert settings["REFERENCE"]["engine"] == TEMPLATES[name].engine


def change(folder: Path, changes: dict[str, dict[str, dict[str, Any]]]) -> None:
    for file, sections in changes.items():
        data = yaml.safe_load((folder / file).read_text())
        for section, values in sections.items():
            data[section] = {**data.get(section, {}), **values}
        (folder / file).write_text(yaml.safe_dump(data))


def test_list_names_all_templates(tmp_path):
    done = init(tmp_path, "--list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [*TEMPLATES]
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["molecule", "periodic", "pyscf"])
def test_template_makes_a_run(name, tmp_path):
    folder = tmp_path / "run"
    done = init(tmp_path, name, "--directory", "run")
    assert (done.returncode, done.stderr) == (0, "")
    # Nothing that the program complains about.
    assert not load_inputs(folder).warnings
    change(folder, SMALLER)
    succeed("FHI_AL", folder)
    stages = [cost["stage"] for cost in summary(folder)["costs"]]
    assert stages[-3:] == ["initial_dataset", "active_learning", "convergence"]
    frames = read(folder / "data" / "train.xyz", ":")
    assert all(("REF_stress" in atoms.info) == (name == "periodic") for atoms in frames)


def test_template_for_fhi_aims_needs_what_only_the_user_has(tmp_path):
    assert init(tmp_path, "asi").returncode == 0
    reference = {
        "library": str(compile_library(tmp_path / "libaims.so")),
        "species_dir": str(SPECIES_DIR),
    }
    change(tmp_path, {"active_learning_settings.yaml": {"REFERENCE": reference}})
    inputs = load_inputs(tmp_path)
    assert inputs.reference.engine == "asi"
    assert not inputs.warnings


def test_template_for_fine_tuning_needs_a_foundation_model(tmp_path):
    assert init(tmp_path, "finetune").returncode == 0
    (tmp_path / "foundation.model").touch()
    inputs = load_inputs(tmp_path)
    assert inputs.al.active_learning.converge_initial
    assert inputs.mace.architecture.atomic_energies == "auto"
    assert not inputs.warnings


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_file_explains_itself(name, tmp_path):
    init(tmp_path, name)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [
        "active_learning_settings.yaml",
        "control.in",
        "geometry.in",
        "mace_settings.yaml",
    ]
    assert all(file.read_text().startswith("#") for file in files)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "control.in").write_text("mine\n")
    before = contents(tmp_path)
    done = init(tmp_path, "molecule")
    assert done.returncode == 2
    assert "control.in is there already" in done.stderr
    assert contents(tmp_path) == before


def slab() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_constraint(FixAtoms([0, 3]))
    atoms.set_initial_magnetic_moments([0.5] * len(atoms))
    return atoms


@pytest.mark.parametrize(
    ("template", "atoms", "file"),
    [
        ("molecule", molecule("CH3COCH3"), "acetone.xyz"),
        ("periodic", slab(), "slab.traj"),
        ("asi", slab(), "slab.traj"),
        ("pyscf", molecule("CH3COCH3"), "acetone.json"),
    ],
)
def test_geometry_of_the_user(template, atoms, file, tmp_path):
    write(tmp_path / file, atoms)
    done = init(tmp_path, template, "--geometry", file, "--directory", "new")
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "new" / "geometry.in").read_text()
    assert text.startswith(f"# {Structure.from_atoms(atoms).formula}, from {file}. ")
    (tmp_path / "plain").mkdir()
    init(tmp_path / "plain", "periodic" if atoms.pbc.any() else "molecule")
    (tmp_path / "plain" / "geometry.in").write_text(text)
    structure = load_inputs(tmp_path / "plain").structure
    assert structure.to_atoms().symbols.get_chemical_formula() == atoms.get_chemical_formula()
    np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-7)
    np.testing.assert_allclose(structure.cell, atoms.cell.array, atol=1e-7)
    np.testing.assert_array_equal(structure.pbc, atoms.pbc)
    if atoms.constraints:
        assert np.flatnonzero(structure.fixed).tolist() == [0, 3]
        assert structure.magmoms is not None
        assert structure.magmoms.tolist() == [0.5] * len(atoms)


def refused(folder: Path, words: Sequence[str], *says: str) -> None:
    before = contents(folder)
    done = init(folder, *words)
    assert done.returncode == 2
    assert all(phrase in done.stderr for phrase in says), done.stderr
    assert "Traceback" not in done.stderr
    assert contents(folder) == before


def test_geometry_that_does_not_fit_is_refused(tmp_path):
    write(tmp_path / "water.xyz", molecule("H2O"))
    write(tmp_path / "many.xyz", [molecule("H2O"), molecule("CO2")])
    partly = molecule("H2O", cell=[5, 5, 5], pbc=[True, True, False])
    write(tmp_path / "partly.xyz", partly)
    (tmp_path / "text.xyz").write_text("no structure\n")
    cases = {
        ("periodic", "water.xyz"): ("water.xyz", "is a molecule", "molecule, asi, pyscf, finetune"),
        ("molecule", "partly.xyz"): ("is a crystal", "periodic, asi, finetune"),
        ("asi", "partly.xyz"): ("along some directions only", "ACTIVE_LEARNING.geometry"),
        ("molecule", "many.xyz"): ("holds 2 structures", "many.xyz@0"),
        ("molecule", "many.xyz@2"): ("got '2' after the @",),
        ("molecule", "text.xyz"): ("text.xyz: ASE can't read it",),
        ("molecule", "nothing.xyz"): ("nothing.xyz is missing",),
    }
    for (template, file), says in cases.items():
        refused(tmp_path, [template, "--geometry", file], *says)
    assert init(tmp_path, "molecule", "--geometry", "many.xyz@1").returncode == 0
    assert "CO2" in (tmp_path / "geometry.in").read_text()
