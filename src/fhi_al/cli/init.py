"""`FHI_AL-init`: input files to begin with."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fhi_al.cli import guarded, make_parser
from fhi_al.cli.templates import TEMPLATES


def main_parser() -> argparse.ArgumentParser:
    """`FHI_AL-init`."""
    parser = make_parser(
        "FHI_AL-init",
        "Write the input files of a run, with comments: geometry.in, control.in, "
        "mace_settings.yaml and active_learning_settings.yaml. Files that are there already are "
        "never overwritten.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "template",
        nargs="?",
        choices=tuple(TEMPLATES),  # shtab takes a dict for subcommands
        metavar="TEMPLATE",
        help=f"what to begin with: {', '.join(TEMPLATES)}",
    )
    what.add_argument("--list", action="store_true", help="say what each template is for")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where to write them (default: this folder)",
    )
    parser.add_argument(
        "--geometry",
        metavar="FILE",
        help="structure to start from, in any format that ASE reads; FILE@3 is the fourth of "
        "several (default: an example)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-init`."""
    arguments = main_parser().parse_args(argv)
    return guarded(lambda: _list() if arguments.list else _write(arguments))


def _list() -> int:
    width = max(map(len, TEMPLATES))
    for name, template in TEMPLATES.items():
        print(f"{name:{width}}  {template.about} ({template.engine})")
    return 0


def _write(arguments: argparse.Namespace) -> int:
    from fhi_al.cli.template import write_template

    files = write_template(arguments.template, arguments.directory, arguments.geometry)
    print("Written:", *files, sep="\n  ")
    steps = TEMPLATES[arguments.template].next_steps
    if arguments.directory != Path():
        steps = (f"cd {arguments.directory}", *steps)
    print("Next, look through them, and then:", *steps, sep="\n  ")
    return 0
