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


def journal(argv: Sequence[str] | None = None) -> int:
    """`FHI_AL-journal`: the journal of a run."""
    parser = argparse.ArgumentParser(
        prog="FHI_AL-journal",
        description="Look at the journal of a run (restart/journal.jsonl), check that it and all "
        "files that it names are whole, or go back to an earlier state of the run.",
    )
    parser.add_argument("--version", action="version", version=f"FHI_AL-journal {__version__}")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    helps = {
        "check": "say what is fine and what is not; exit code 1 if the run can't go on",
        "repair": "go back to the state after N records; without --until, list those that can be "
        "restored. The journal as it was is kept beside it",
        "show": "print the events",
    }
    for action, text in helps.items():
        own = actions.add_parser(action, help=text, description=text.capitalize() + ".")
        own.add_argument(
            "directory",
            type=Path,
            nargs="?",
            default=Path(),
            metavar="DIR",
            help="folder with the input files (default: this folder)",
        )
        if action == "repair":
            own.add_argument("--until", type=int, metavar="N", help="number of records to keep")
        elif action == "show":
            own.add_argument("--tail", type=int, metavar="N", help="only the last N events")
    arguments = parser.parse_args(argv)

    from fhi_al import journal_tool
    from fhi_al.errors import FhiAlError

    try:
        if arguments.action == "check":
            return journal_tool.check(arguments.directory)
        if arguments.action == "repair":
            return journal_tool.repair(arguments.directory, arguments.until)
        return journal_tool.show(arguments.directory, arguments.tail)
    except FhiAlError as error:
        print(error, file=sys.stderr)
        return error.exit_code


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
