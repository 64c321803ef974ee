"""The console commands: read the command line, hand over. Heavy imports happen later."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from fhi_al import __version__

COMMANDS: dict[str, str] = {
    "FHI_AL": "fhi_al.cli.run:whole",
    "FHI_AL-initial-ds": "fhi_al.cli.run:initial_dataset",
    "FHI_AL-al": "fhi_al.cli.run:active_learning",
    "FHI_AL-atomic-energies": "fhi_al.cli.run:atomic_energies",
    "FHI_AL-journal": "fhi_al.cli.journal:main",
}
"""Each command and its entry point, as in setup.cfg. Beside the function `NAME` of such an entry
point, its module has `NAME_parser`, which makes the parser: for help, completion and the docs."""


def make_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command, with what all of them have."""
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    return parser


def guarded(command: Callable[[], int]) -> int:
    """Run a command; tell its errors in words. The exit code."""
    from fhi_al.errors import FhiAlError

    try:
        return command()
    except FhiAlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
