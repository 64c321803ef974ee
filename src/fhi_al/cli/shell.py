"""Shell completion for all commands, from their parsers."""

from __future__ import annotations

import argparse
import importlib

import shtab

from fhi_al.cli import COMMANDS

_PATHS = {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE}
"""How an argument is completed whose metavar begins like this."""


def completion_script(shell: str) -> str:
    """The script that teaches a shell all commands.

    Args:
        shell: one that shtab knows.
    """
    return "\n".join(shtab.complete(_parser(command), shell) for command in COMMANDS)


def _parser(command: str) -> argparse.ArgumentParser:
    module, _, function = COMMANDS[command].partition(":")
    parser: argparse.ArgumentParser = getattr(
        importlib.import_module(module), f"{function}_parser"
    )()
    _mark_paths(parser)
    return parser


def _mark_paths(parser: argparse.ArgumentParser) -> None:
    """Say which arguments are files and folders, below subcommands, too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own in action.choices.values():
                _mark_paths(own)
        elif isinstance(action.metavar, str):
            for metavar, complete in _PATHS.items():
                if action.metavar.startswith(metavar):
                    action.complete = complete  # type: ignore[attr-defined]
