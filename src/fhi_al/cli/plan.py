"""`FHI_AL-plan`: what a run will cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fhi_al.cli import make_parser


def main_parser() -> argparse.ArgumentParser:
    """`FHI_AL-plan`."""
    parser = make_parser(
        "FHI_AL-plan",
        "Check the input files and the layout of the ranks, try the reference, the training and "
        "the molecular dynamics for a moment, and say what a run would take. Start it as you would "
        "start the run (mpirun, srun). Nothing is written in the folder.",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder with the input files (default: this folder)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="don't compile code (a few minutes), but guess how fast it will be",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-plan`."""
    arguments = main_parser().parse_args(argv)

    from fhi_al.planning.dry_run import dry_run

    return dry_run(arguments.directory, quick=arguments.quick)
