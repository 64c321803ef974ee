"""The new user's way, as the tutorial has it: from a geometry to dynamics with its model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.io import read
from cli.cli_runs import SCRIPTS, environment, summary
from pages import DOCS, code_blocks

PAGE = DOCS / "tutorial-own-molecule.md"

# A run of seconds in place of minutes. Everything else is as the commands make it.
SMALLER = {
    "mace_settings.yaml": {
        "ARCHITECTURE": {"num_channels": 8, "max_ell": 2, "correlation": 2, "num_interactions": 1},
        "TRAINING": {"ema_decay": 0.9},
    },
    "active_learning_settings.yaml": {
        "ACTIVE_LEARNING": {
            "ensemble_size": 2,
            "num_trajectories": 2,
            "max_initial_set_size": 16,
            "skip_step_mlff": 10,
            "threshold_factor": 0.7,
            "max_epochs_worker": 4,
            "max_set_size": 22,
            "max_final_epochs": 40,
        },
        "MD": {"timestep_fs": 2.0},
    },
}


def smaller(directory: Path) -> None:
    """Change settings in the files that FHI_AL-init has written."""
    for name, sections in SMALLER.items():
        settings = yaml.safe_load((directory / name).read_text())
        for section, values in sections.items():
            settings[section] = {**settings[section], **values}
        (directory / name).write_text(yaml.safe_dump(settings))


@pytest.mark.slow
def test_a_molecule_of_ones_own(tmp_path: Path) -> None:
    commands = "".join(text for _, text in code_blocks(PAGE, "bash")).splitlines()
    assert len(commands) == 9  # as README.md and docs/index.md say
    ((script, text),) = code_blocks(PAGE, "python")

    folder = tmp_path
    path = os.pathsep.join([str(SCRIPTS), os.environ["PATH"]])
    for command in commands:
        if command.startswith("cd "):
            folder /= command.removeprefix("cd ")
            smaller(folder)
            (folder / script).write_text(text)
            continue
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment(PATH=path),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    assert (folder / "results" / "report.html").is_file()
    assert min(error["force_mae"] for error in summary(folder)["errors"]) < 0.05  # eV/Å
    check_dynamics(folder / "md.traj")


def check_dynamics(path: Path) -> None:
    """See that the molecule has held together, at about the right temperature, for 10 ps."""
    frames = read(path, ":")
    assert len(frames) == 101  # every 100 fs
    for atoms in frames:
        bonds = atoms.get_distances(0, range(1, 5))
        assert 1.5 < bonds.min() <= bonds.max() < 2.1
    assert np.mean([atoms.get_temperature() for atoms in frames[20:]]) == pytest.approx(300, abs=75)
