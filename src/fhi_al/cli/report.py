"""`FHI_AL-report`: a run as one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fhi_al.cli import guarded, make_parser, takes_run_folder
from fhi_al.record.hush import hush_warnings


def main_parser() -> argparse.ArgumentParser:
    """`FHI_AL-report [DIR]`."""
    parser = make_parser(
        "FHI_AL-report",
        "Write results/report.html, one page that opens offline, and its charts as PNG and SVG in "
        "results/figures: of a run that is finished, at work or interrupted. A finished run has "
        "written its report already.",
    )
    takes_run_folder(parser)
    parser.add_argument(
        "--no-predictions",
        action="store_true",
        help="do without the charts for which models would have to be loaded",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-report`."""
    arguments = main_parser().parse_args(argv)
    hush_warnings()

    from fhi_al.report.run_report import report_folder

    predict = not arguments.no_predictions
    return guarded(lambda: report_folder(arguments.directory, predict=predict))
