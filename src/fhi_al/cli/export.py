"""`FHI_AL-export`: models and datasets in the formats of other programs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fhi_al.cli import guarded, make_parser, takes_run_folder
from fhi_al.record.exports import DATASET_FORMATS, MODEL_FORMATS
from fhi_al.record.hush import hush_warnings


def main_parser() -> argparse.ArgumentParser:
    """`FHI_AL-export`."""
    parser = make_parser(
        "FHI_AL-export",
        "Write the models of a run, with a model card, and its datasets in the formats of other "
        "programs. Before the end of the run: what there is so far.",
    )
    takes_run_folder(parser)
    formats = {**MODEL_FORMATS, **DATASET_FORMATS}
    parser.add_argument(
        "--format",
        action="append",
        choices=[*formats],
        metavar="FORMAT",
        dest="formats",
        help="can be given several times (default: model). "
        + "; ".join(f"{name}: {how.words} ({how.suffix})" for name, how in formats.items()),
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help="precision of the models (default: that which they were trained in)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: DIR/export)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-export`."""
    arguments = main_parser().parse_args(argv)
    return guarded(lambda: _export(arguments))


def _export(arguments: argparse.Namespace) -> int:
    hush_warnings()

    from fhi_al.analysis.finished_run import read_run
    from fhi_al.report.model_card import describe, write_card

    formats = list(dict.fromkeys(arguments.formats or ["model"]))
    run = read_run(arguments.directory)
    out = arguments.out or run.root / "export"
    files: list[Path] = []
    models = [name for name in formats if name in MODEL_FORMATS]
    if models:
        from fhi_al.ensemble.conversion import convert

        converted = convert(run.model_files(), models, arguments.dtype, out)
        files += [model.file for model in converted]
        files += write_card(describe(run, converted), out)
    datasets = [name for name in formats if name in DATASET_FORMATS]
    if datasets:
        from fhi_al.ensemble.datasets import write_datasets

        files += write_datasets(run, datasets, out)
    print(run.describe())
    print("Written:", *files, sep="\n  ")
    return 0
