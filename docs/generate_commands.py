"""Write docs/commands.md from the parsers of the commands: `make docs`."""

from __future__ import annotations

import argparse
import html
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from fhi_al.cli import COMMANDS

PAGE = Path(__file__).parent / "commands.md"

INTRODUCTION = """\
# Commands

<!-- Written by `make docs` from the parsers in src/fhi_al/cli; change those. -->

Every command has `--help` and `--version` as well. Exit codes: 0 the command did what it was asked,
1 it failed, 2 the input or the command line is wrong, 75 it stopped before the end and the same
command goes on.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([INTRODUCTION, *("\n".join(_command(_parser(name))) for name in COMMANDS)])


def _parser(command: str) -> argparse.ArgumentParser:
    module, _, function = COMMANDS[command].partition(":")
    parser: argparse.ArgumentParser = getattr(
        importlib.import_module(module), f"{function}_parser"
    )()
    return parser


def _command(parser: argparse.ArgumentParser, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {parser.prog}\n"
    if parser.description:
        yield _text(parser.description) + "\n"
    # argparse has no public way to ask a parser for its arguments.
    told = [action for action in parser._actions if _told(action)]
    # What has no name of its own comes first, as in the usage line.
    rows = [_row(action) for action in sorted(told, key=lambda action: bool(action.option_strings))]
    if rows:
        yield "| option | meaning |\n| --- | --- |"
        yield "\n".join(rows) + "\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _command(sub, level + 1)


def _told(action: argparse.Action) -> bool:
    common = (argparse._HelpAction, argparse._VersionAction, argparse._SubParsersAction)
    return not isinstance(action, common) and action.help != argparse.SUPPRESS


def _row(action: argparse.Action) -> str:
    value = _value(action)
    if action.option_strings:
        names = ", ".join(
            f"`{name}{f' {value}' if value else ''}`" for name in action.option_strings
        )
    else:
        names = f"`{value}`"
    return f"| {names} | {_text(action.help or '')} |"


def _text(words: str) -> str:
    """Plain text as Markdown that shows it as it is, in tables, too."""
    return re.sub(r"([|*])", r"\\\1", html.escape(" ".join(words.split()), quote=False))


def _value(action: argparse.Action) -> str:
    """What stands for the value of an argument, as in the usage line."""
    if action.nargs == 0:
        return ""
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    else:
        value = str(action.metavar or action.dest)
        if action.metavar is None and action.option_strings:
            value = value.upper()
    many = {"*": f"[{value} ...]", "+": f"{value} ...", "?": f"[{value}]"}
    return many.get(str(action.nargs), value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
