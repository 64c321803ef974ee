"""`FHI_AL-journal`: the journal of a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fhi_al.cli import guarded, make_parser, takes_run_folder

_HELPS = {
    "check": "say what is fine and what is not; exit code 1 if the run can't go on",
    "repair": "go back to the state after N records; without --until, list those that can be "
    "restored. The journal as it was is kept beside it",
    "show": "print the events",
}


def main_parser() -> argparse.ArgumentParser:
    """`FHI_AL-journal check|repair|show`."""
    parser = make_parser(
        "FHI_AL-journal",
        "Look at the journal of a run (restart/journal.jsonl), check that it and all files that it "
        "names are whole, or go back to an earlier state of the run.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, text in _HELPS.items():
        own = actions.add_parser(action, help=text, description=f"{text[0].upper()}{text[1:]}.")
        takes_run_folder(own, ", or a journal in its restart/, as that of a recalculation")
        if action == "repair":
            own.add_argument("--until", type=int, metavar="N", help="number of records to keep")
        elif action == "show":
            own.add_argument("--tail", type=int, metavar="N", help="only the last N events")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-journal`."""
    arguments = main_parser().parse_args(argv)

    from fhi_al.folder import repair as journal_tool

    if arguments.action == "check":
        return guarded(lambda: journal_tool.check(arguments.directory))
    if arguments.action == "repair":
        return guarded(lambda: journal_tool.repair(arguments.directory, arguments.until))
    return guarded(lambda: journal_tool.show(arguments.directory, arguments.tail))
