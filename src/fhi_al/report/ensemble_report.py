"""`FHI_AL-test-ensemble`: how good some models are on some data."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fhi_al.analysis.predictions import Predictions
from fhi_al.analysis.scores import Calibration, Scores, all_scores, calibration
from fhi_al.errors import InputError
from fhi_al.record.files import write_text
from fhi_al.report import to_matplotlib
from fhi_al.report.charts import Chart
from fhi_al.report.model_charts import calibration_chart, parity, species_chart
from fhi_al.report.page import PageSection, page, paragraph, table
from fhi_al.report.score_tables import score_table

ERRORS, REPORT, FIGURES = "errors.json", "report.html", "figures"


@dataclass(frozen=True)
class Examination:
    """What is asked for.

    Attributes:
        models: files of MACE models.
        data: file of structures with energies and forces.
        names: of `energy`, `forces` and `stress` in it, where they are not the usual ones.
        out: folder for files of what was found; None: it is only shown.
        device: where to compute, as torch names it.
        dtype: `float32` or `float64`; None: that of each model.
        batch_size: structures at once.
    """

    models: Sequence[Path]
    data: Path
    names: Mapping[str, str]
    out: Path | None
    device: str
    dtype: str | None
    batch_size: int


def examine(asked: Examination) -> None:
    """Predict, compare, and show.

    Args:
        asked: which models, on which data.

    Raises:
        InputError: models or data can't be used.
        StorageError: a file can't be written.
    """
    if missing := [str(path) for path in (*asked.models, asked.data) if not path.is_file()]:
        raise InputError([f"{path}: there is no such file." for path in missing])
    from fhi_al.ensemble.examine import predict_labels
    from fhi_al.ensemble.frames import Names, read_labels

    labels, _ = read_labels(asked.data, Names(**asked.names) if asked.names else None)
    began = time.monotonic()
    predictions = predict_labels(
        asked.models,
        labels,
        device=asked.device,
        dtype=asked.dtype,
        batch_size=asked.batch_size,
    )
    seconds = time.monotonic() - began
    models = model_names(asked.models)
    scores = all_scores(predictions, models)
    calibrated = calibration(predictions)
    print_scores(scores, calibrated, Console(highlight=False))
    print(f"{len(predictions)} structures, {len(models)} models, {seconds:.1f} s")
    if asked.out is not None:
        _write(asked, asked.out, predictions, scores, calibrated)
        print(f"Written: {', '.join(str(asked.out / n) for n in (ERRORS, REPORT, FIGURES))}")


def model_names(paths: Sequence[Path]) -> list[str]:
    """Short names of model files; their paths, where those would be the same."""
    counts = Counter(path.stem for path in paths)
    return [path.stem if counts[path.stem] == 1 else str(path) for path in paths]


def print_scores(
    scores: Sequence[Scores], calibrated: Calibration | None, console: Console
) -> None:
    """Show the errors as a table, and the calibration in words."""
    title, header, rows = score_table(scores)
    shown = Table(title=title)
    for index, name in enumerate(header):
        shown.add_column(name, justify="right" if index else "left")
    kinds = [(bool(found.species), bool(found.system)) for found in scores]
    for index, row in enumerate(rows):
        if index and kinds[index] != kinds[index - 1]:
            shown.add_section()
        shown.add_row(*row)
    console.print(shown)
    if calibrated is not None:
        console.print(f"Uncertainty: {calibration_words(calibrated)}")


def calibration_words(found: Calibration) -> str:
    """How far the members' disagreement can be believed."""
    return (
        f"force errors are {found.ratio:.2f} times the members' spread (1: calibrated; above: too "
        f"sure of themselves); rank correlation between the two {found.rank_correlation:.2f}"
    )


def _write(
    asked: Examination,
    out: Path,
    predictions: Predictions,
    scores: Sequence[Scores],
    calibrated: Calibration | None,
) -> None:
    told: dict[str, Any] = {
        "models": [str(path) for path in asked.models],
        "data": str(asked.data),
        "units": {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å^3"},
        "n_structures": len(predictions),
        "n_atoms": len(predictions.numbers),
        "scores": [asdict(found) for found in scores],
        "calibration": None,
    }
    if calibrated is not None:
        told["calibration"] = {
            "error_over_spread": calibrated.ratio,
            "rank_correlation": calibrated.rank_correlation,
            "bin_spread": calibrated.bin_spread.tolist(),
            "bin_error": calibrated.bin_error.tolist(),
        }
    write_text(out / ERRORS, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    charts = _charts(asked.data, predictions, scores)
    parts: list[str | Chart] = [table(*score_table(scores))]
    if calibrated is not None:
        parts.append(paragraph(f"Uncertainty: {calibration_words(calibrated)}."))
    title = f"Errors of {len(asked.models)} model{'s' if len(asked.models) > 1 else ''}"
    subtitle = f"on {len(predictions)} structures of {asked.data}"
    sections = [PageSection("Errors", parts), PageSection("Charts", list(charts))]
    write_text(out / REPORT, page(title, subtitle, [], sections))
    for chart in charts:
        to_matplotlib.save(chart, out / FIGURES)


def _charts(data: Path, predictions: Predictions, scores: Sequence[Scores]) -> list[Chart]:
    everyone = range(len(predictions.members))
    found = [
        parity(predictions, everyone, data.name),
        calibration_chart(predictions, data.name),
        species_chart(scores),
    ]
    return [chart for chart in found if chart is not None]
