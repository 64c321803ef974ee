"""`FHI_AL-status`: how a run is coming along."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fhi_al.cli import guarded, make_parser, takes_run_folder


def main_parser() -> argparse.ArgumentParser:
    """`FHI_AL-status [DIR]`."""
    parser = make_parser(
        "FHI_AL-status",
        "Show how a run is coming along, while it goes on or after it. Reads the journal "
        "(restart/journal.jsonl) and changes nothing.",
    )
    takes_run_folder(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on until the run has reached its goal, or Ctrl-C: draw anew every 2 s on a "
        "terminal, else print a line (with --json: a line of JSON) when something has happened",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-status`."""
    arguments = main_parser().parse_args(argv)

    from fhi_al.monitor import status

    act = status.watch if arguments.watch else status.show
    return guarded(lambda: act(arguments.directory, as_json=arguments.json))
