"""The commands: each reads its command line and hands over."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from fhi_al import __version__

COMMANDS: dict[str, str] = {
    "FHI_AL": "fhi_al.cli.run:whole",
    "FHI_AL-initial-ds": "fhi_al.cli.run:initial_dataset",
    "FHI_AL-al": "fhi_al.cli.run:active_learning",
    "FHI_AL-atomic-energies": "fhi_al.cli.run:atomic_energies",
    "FHI_AL-recalculate": "fhi_al.cli.run:recalculate",
    "FHI_AL-journal": "fhi_al.cli.journal:main",
    "FHI_AL-status": "fhi_al.cli.status:main",
    "FHI_AL-completion": "fhi_al.cli.completion:main",
    "FHI_AL-report": "fhi_al.cli.report:main",
    "FHI_AL-test-ensemble": "fhi_al.cli.test_ensemble:main",
    "FHI_AL-init": "fhi_al.cli.init:main",
    "FHI_AL-plan": "fhi_al.cli.plan:main",
    "FHI_AL-export": "fhi_al.cli.export:main",
}
"""Each command and its entry point, as in setup.cfg. Beside the function `NAME` of such an entry
point, its module has `NAME_parser`, which makes the parser: for help, completion and the docs."""


def make_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command, with what all of them have."""
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    return parser


def takes_run_folder(parser: argparse.ArgumentParser, or_else: str = "") -> None:
    """Let the folder of a run be named, as `DIR`.

    Args:
        parser: of the command.
        or_else: what may be named in its place, for the help.
    """
    parser.add_argument(
        "directory",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="DIR",
        help=f"folder of the run, with its input files{or_else} (default: this folder)",
    )


def guarded(command: Callable[[], int]) -> int:
    """Run a command; tell its errors in words. The exit code."""
    from fhi_al.errors import FhiAlError

    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, `head` perhaps, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except FhiAlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return code
