"""`FHI_AL-test-ensemble`: errors of any MACE models on any labelled data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fhi_al.cli import guarded, make_parser
from fhi_al.record.hush import hush_warnings

QUANTITIES = ("energy", "forces", "stress")


def main_parser() -> argparse.ArgumentParser:
    """`FHI_AL-test-ensemble MODELS... --data FILE`."""
    parser = make_parser(
        "FHI_AL-test-ensemble",
        "Errors of MACE models on labelled structures: MAE, RMSE and largest error of energies, "
        "forces and stress, of each model and of the committee's mean, by element and by formula, "
        "and whether the models' disagreement foretells the errors.",
    )
    parser.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="a MACE model file; such files are pickles and can run code: use only ones you trust",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="structures with energies (eV) and forces (eV/Å), and stress (eV/Å^3) if there is "
        "any, in a format that ASE reads",
    )
    for quantity in QUANTITIES:
        parser.add_argument(
            f"--{quantity}-key",
            metavar="NAME",
            help=f"name of the {quantity} in the file (default: REF_{quantity}, or else what ASE "
            "takes for the result of a calculation)",
        )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write errors.json, report.html and the charts as PNG and SVG to this folder "
        "(default: only show the tables)",
    )
    parser.add_argument(
        "--device", default="cpu", help="where to compute, as torch names it (default: cpu)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help="precision (default: that of each model)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=10, metavar="N", help="structures at once (default: 10)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-test-ensemble`."""
    parser = main_parser()
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 1:
        parser.error(f"argument --batch-size: got {arguments.batch_size}, expected 1 or more")
    hush_warnings()
    return guarded(lambda: _examine(arguments))


def _examine(arguments: argparse.Namespace) -> int:
    from fhi_al.report.ensemble_report import Examination, examine

    given = {
        quantity: name for quantity in QUANTITIES if (name := getattr(arguments, f"{quantity}_key"))
    }
    examine(
        Examination(
            models=arguments.models,
            data=arguments.data,
            names=given,
            out=arguments.out,
            device=arguments.device,
            dtype=arguments.dtype,
            batch_size=arguments.batch_size,
        )
    )
    return 0
