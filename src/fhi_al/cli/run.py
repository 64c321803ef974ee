"""The commands that make a force field: `FHI_AL`, and its parts alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fhi_al.cli import make_parser


def whole_parser() -> argparse.ArgumentParser:
    """`FHI_AL`: initial dataset, active learning, convergence."""
    return _parser(
        "FHI_AL",
        "Make a MACE force field from control.in, geometry.in, mace_settings.yaml and "
        "active_learning_settings.yaml: initial dataset, active learning, convergence. "
        "Run again after an interruption, it goes on where it stopped.",
    )


def initial_dataset_parser() -> argparse.ArgumentParser:
    """`FHI_AL-initial-ds`: the first part alone."""
    return _parser(
        "FHI_AL-initial-ds",
        "Create the initial dataset and train the committee on it. "
        "FHI_AL or FHI_AL-al go on from there.",
    )


def active_learning_parser() -> argparse.ArgumentParser:
    """`FHI_AL-al`: the second part alone."""
    return _parser(
        "FHI_AL-al",
        "Active learning and convergence, from what FHI_AL-initial-ds left in this folder, or from "
        "data (and models) of your own: ACTIVE_LEARNING.initial_data and initial_models.",
    )


def atomic_energies_parser() -> argparse.ArgumentParser:
    """`FHI_AL-atomic-energies`: energies of isolated atoms."""
    return _parser(
        "FHI_AL-atomic-energies",
        "Compute the energies of the isolated atoms of all elements in geometry.in, with the "
        "reference method, ready to paste into mace_settings.yaml.",
    )


def recalculate_parser() -> argparse.ArgumentParser:
    """`FHI_AL-recalculate`: other labels for a dataset."""
    parser = _parser(
        "FHI_AL-recalculate",
        "Compute the structures of a file with the reference method of the folder's settings, as "
        "they are now. Run again after an interruption, it goes on where it stopped.",
    )
    parser.add_argument(
        "dataset", type=Path, metavar="DATASET", help="structures, in any format that ASE reads"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write them with energies, forces and stress, as extended XYZ; those that "
        "fail go to <FILE>-rejected.xyz (default: beside DATASET, <DATASET>-recalculated.xyz)",
    )
    return parser


def whole(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL`."""
    return _run("run", whole_parser(), argv)


def initial_dataset(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-initial-ds`."""
    return _run("initial_dataset", initial_dataset_parser(), argv)


def active_learning(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-al`."""
    return _run("active_learning", active_learning_parser(), argv)


def atomic_energies(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-atomic-energies`."""
    return _run("atomic_energies", atomic_energies_parser(), argv)


def recalculate(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-recalculate`."""
    return _run("recalculate", recalculate_parser(), argv)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = make_parser(name, description)
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
    parser.add_argument(
        "--retry-rejected",
        action="store_true",
        help="try rejected structures again, with the settings as they are now",
    )
    return parser


def _run(goal: str, parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    arguments = parser.parse_args(argv)

    from fhi_al.run.walltime import parse_walltime

    try:
        walltime = arguments.walltime and parse_walltime(arguments.walltime)
    except ValueError as error:
        parser.error(f"argument --walltime: {error}")

    from fhi_al.run.launch import launch
    from fhi_al.run.recalculation import Recalculation
    from fhi_al.run.task import AtomicEnergies, Task

    if goal == "recalculate":
        task: Task = Recalculation(arguments.dataset, arguments.output)
    elif goal == "atomic_energies":
        task = AtomicEnergies()
    else:
        task = Task(goal)
    return launch(task, arguments.directory, walltime, retry=arguments.retry_rejected)
