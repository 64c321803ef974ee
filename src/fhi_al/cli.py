"""The console commands: read the command line, hand over. Heavy imports happen later."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fhi_al import __version__
from fhi_al.events import Goal


def run() -> int:
    """`FHI_AL`: initial dataset, active learning, convergence."""
    return _main(
        "FHI_AL",
        "run",
        "Make a MACE force field from control.in, geometry.in, mace_settings.yaml and "
        "active_learning_settings.yaml: initial dataset, active learning, convergence. "
        "Run again after an interruption, it goes on where it stopped.",
    )


def initial_dataset() -> int:
    """`FHI_AL-initial-ds`: the first part alone."""
    return _main(
        "FHI_AL-initial-ds",
        "initial_dataset",
        "Create the initial dataset and train the committee on it. "
        "FHI_AL or FHI_AL-al go on from there.",
    )


def active_learning() -> int:
    """`FHI_AL-al`: the second part alone."""
    return _main(
        "FHI_AL-al",
        "active_learning",
        "Active learning and convergence, from what FHI_AL-initial-ds left in this folder, or from "
        "data (and models) of your own: ACTIVE_LEARNING.initial_data and initial_models.",
    )


def atomic_energies() -> int:
    """`FHI_AL-atomic-energies`: energies of isolated atoms."""
    return _main(
        "FHI_AL-atomic-energies",
        "atomic_energies",
        "Compute the energies of the isolated atoms of all elements in geometry.in, with the "
        "reference method, ready to paste into mace_settings.yaml.",
    )


def _main(name: str, goal: Goal, description: str, argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder with the input files; results go there too (default: this folder)",
    )
    parser.add_argument(
        "--walltime",
        metavar="HH:MM:SS",
        help="time from now within which to stop, in good order (also D-HH:MM:SS, or seconds; "
        "default: the end that Slurm gives the job, else none)",
    )
    arguments = parser.parse_args(argv)

    from fhi_al.walltime import parse_walltime

    try:
        walltime = arguments.walltime and parse_walltime(arguments.walltime)
    except ValueError as error:
        parser.error(f"argument --walltime: {error}")

    from fhi_al.launch import launch

    return launch(goal, arguments.directory, walltime)


if __name__ == "__main__":
    sys.exit(run())
