"""The report of a run: `results/report.html`, and its charts in `results/figures/`."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fhi_al.analysis.accounting import shares
from fhi_al.analysis.predictions import Predictions, load_predictions, save_predictions
from fhi_al.analysis.scores import all_scores, calibration
from fhi_al.analysis.summary import Summary, summarise
from fhi_al.errors import FhiAlError, InputError
from fhi_al.folder.run_folder import PREDICTIONS, RunFolder
from fhi_al.procedures.pipelines import words_of
from fhi_al.procedures.run import finished, fold
from fhi_al.procedures.state import State
from fhi_al.record.events import Opened
from fhi_al.record.files import write_text
from fhi_al.record.journal import Record, read_journal
from fhi_al.report import to_matplotlib
from fhi_al.report.charts import Chart
from fhi_al.report.citations import cited
from fhi_al.report.methods import methods, reference_name, versions
from fhi_al.report.model_charts import CALIBRATION, calibration_panel, parity, species_chart
from fhi_al.report.page import PageSection, folded, listed, page, paragraph, table, verbatim
from fhi_al.report.run_charts import choices_panel, energies, learning_curve, sets
from fhi_al.report.score_tables import score_table
from fhi_al.report.story import Story, tell
from fhi_al.report.timeline import timeline
from fhi_al.report.walk_charts import temperature, uncertainty
from fhi_al.report.words import (
    delivered,
    delivered_errors,
    duration_in_words,
    figures,
    remarks,
    summary_words,
    systems,
)

log = logging.getLogger(__name__)

REPORT, FIGURES = "report.html", "figures"


def write_report(
    results: Path, records: Sequence[Record], predictions: Mapping[str, Predictions]
) -> Path:
    """Write the page, and each of its charts as PNG and SVG.

    Args:
        results: the folder that gets them.
        records: of the run's journal.
        predictions: dataset -> what the models say about it; empty: the page goes without the
            charts that need them.

    Returns:
        The page.

    Raises:
        InputError: the journal holds nothing to report.
        StorageError: a file can't be written.
    """
    if not records or not isinstance(records[0].event, Opened):
        raise InputError("The journal is empty: there is nothing to report yet.")
    story = tell(records)
    summary = summarise(records, ())
    head, sections = _contents(story, summary, predictions)
    name = story.last.inputs.get("GENERAL.name_exp") or systems(story)
    state = "finished" if finished(story.state) else "not finished"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(records[-1].time))
    subtitle = f"{reference_name(story.last.inputs)} · {state} · last record of {when}"
    text = page(f"Report of {name}", subtitle, head, sections)
    path = results / REPORT
    write_text(path, text)
    for section in sections:
        for chart in section.charts:
            to_matplotlib.save(chart, results / FIGURES)
    return path


def try_report(folder: RunFolder, records: Sequence[Record], weights: str | None) -> None:
    """Write the report of a run that has just ended; whatever is wrong with it harms nobody.

    Args:
        folder: of the run.
        records: of its journal.
        weights: checkpoint of the models at its end.
    """
    try:
        predictions = load_predictions(folder.predictions, folder.run, weights or "")
        path = write_report(folder.results, records, predictions or {})
    except Exception as error:  # the run is done, whatever happens to its pictures
        log.warning(
            "The report could not be written (%s: %s); the run is complete without it. To try "
            "again: FHI_AL-report %s",
            type(error).__name__,
            error,
            folder.root,
        )
    else:
        log.info("Report: %s", path)


def report_folder(directory: Path, *, predict: bool = True) -> int:
    """Write the report of the run in a folder, whether it is finished, at work or interrupted.

    Args:
        directory: with the input files.
        predict: whether models may be loaded, if the predictions are not there yet.

    Returns:
        Exit code.

    Raises:
        InputError: there is no run.
        JournalError: its journal is damaged.
        StorageError: a file can't be written.
    """
    journal = Path(directory).absolute() / "restart" / "journal.jsonl"
    if not journal.is_file():
        raise InputError(f"{journal}: there is no journal; name the folder with the input files")
    records, _ = read_journal(journal)
    state = fold(record.event for record in records)
    if state is None:
        raise InputError(f"{journal} is empty: the run has not begun; try again later")
    opened = records[0].event
    assert isinstance(opened, Opened)
    results = journal.parents[1] / opened.inputs.get("GENERAL.results_dir", "results")
    predictions: Mapping[str, Predictions] = {}
    try:
        predictions = _predictions(journal.parents[1], results, opened, state, predict=predict)
    except FhiAlError as error:
        print(f"The report goes without parity plots: {error}", file=sys.stderr)
    path = write_report(results, records, predictions)
    print(f"Report: {path}\nIts charts as PNG and SVG: {results / FIGURES}")
    return 0


def _predictions(
    directory: Path, results: Path, opened: Opened, state: State, *, predict: bool
) -> Mapping[str, Predictions]:
    """What the models say about the validation and the test set: as kept, or computed now."""
    if state.books.weights is None:
        return {}
    evaluated = state.books.evaluated == state.books.weights
    path = results / PREDICTIONS
    kept = load_predictions(path, opened.run, state.books.weights) if evaluated else None
    if kept is not None or not predict:
        return kept or {}
    print("Computing the predictions of the models, which loads torch (--no-predictions: don't)")
    from fhi_al.ensemble.evaluate import predict_now

    sets = predict_now(directory, opened, state)
    if evaluated:
        save_predictions(path, sets, opened.run, state.books.weights)
    return sets


def _contents(
    story: Story, summary: Summary, predictions: Mapping[str, Predictions]
) -> tuple[list[str], list[PageSection]]:
    errors = delivered_errors(story, predictions)
    numbers = "".join(
        f"<div><b>{escape(number.value)}</b><span>{escape(number.about)}</span></div>"
        for number in figures(story, summary, errors)
    )
    head = [
        f'<div class="figures">{numbers}</div>',
        paragraph(" ".join(summary_words(story, summary, errors))),
    ]
    if notes := remarks(story, summary, predictions, errors):
        head.append(f'<div class="remarks"><b>Worth a look</b>{listed(notes)}</div>')
    return head, [
        PageSection("Accuracy", _accuracy(story, predictions)),
        PageSection("Molecular dynamics", _charts(uncertainty(story), temperature(story))),
        PageSection("Data", _charts(sets(story), energies(story))),
        PageSection("Cost", [_costs(summary), *_charts(timeline(story))]),
        PageSection("Methods", _methods(story)),
    ]


def _charts(*charts: Chart | None) -> list[str | Chart]:
    return [chart for chart in charts if chart is not None]


def _accuracy(story: Story, predictions: Mapping[str, Predictions]) -> list[str | Chart]:
    parts = _charts(learning_curve(story))
    for data, found in predictions.items():
        parts.append(parity(found, delivered(story, found), data, name=f"parity_{data}"))
    parts += _charts(_trust(story, predictions))
    if predictions:
        data, found = list(predictions.items())[-1]
        names = [f"member {member}" for member in found.members]
        scores = all_scores(found, names)
        parts += _charts(species_chart(scores))
        title, header, rows = score_table(scores)
        parts.append(table(f"{data.capitalize()} data. {title}", header, rows))
    return parts


def _trust(story: Story, predictions: Mapping[str, Predictions]) -> Chart | None:
    """Error against uncertainty: of the choices during the run, and of the delivered weights."""
    panels = [panel for panel in [choices_panel(story)] if panel is not None]
    caption = []
    if panels:
        caption.append(
            "Mean absolute error of the committee's forces, known once the reference was asked, "
            "against the uncertainty for which each structure was chosen."
        )
    for data, found in list(predictions.items())[-1:]:
        if (calibrated := calibration(found)) is not None:
            panels.append(calibration_panel(calibrated, "each atom, with the latest weights"))
            caption.append(f"{CALIBRATION} {data.capitalize()} data.")
    if not panels:
        return None
    if len(caption) == 2:
        caption = [f"Left: {caption[0]}", f"Right: {caption[1]}"]
    return Chart(
        "calibration",
        "Error against uncertainty",
        " ".join(caption),
        tuple(panels),
        columns=len(panels),
        panel_height=330,
    )


def _costs(summary: Summary) -> str:
    stages = table(
        "Stages",
        ["stage", "wall time", "reference calls", "reference time"],
        [
            [
                words_of(cost.stage),
                duration_in_words(cost.wall_seconds),
                str(cost.reference_calls),
                duration_in_words(cost.reference_seconds),
            ]
            for cost in summary.costs
        ],
    )
    roles = table(
        "Ranks",
        ["role", "busy", "with", "waiting for"],
        [
            [
                use.role,
                f"{100 * sum(use.busy.values()) / (use.rank_seconds or 1):.0f} %",
                shares(use.busy, use.rank_seconds),
                shares(use.waiting, use.rank_seconds),
            ]
            for use in summary.roles
        ],
    )
    return f'<div class="tables">{stages}{roles if summary.roles else ""}</div>'


def _methods(story: Story) -> list[str | Chart]:
    inputs = story.last.inputs
    entries = "\n\n".join(citation.bibtex for citation in cited(inputs))
    rows = [[name, version] for name, version in versions(story).items()]
    settings = [[name, _plain(value)] for name, value in inputs.items()]
    parts: list[str | Chart] = [
        paragraph("Ready for a paper; the keys in brackets are those of the entries below."),
        f"<blockquote>{paragraph(methods(story))}</blockquote>",
        "<h3>Versions</h3>",
        paragraph(
            "FHI_AL is that of the run; the packages are those installed where this report was "
            "written."
        ),
        table("", ["", ""], rows),
        "<h3>To cite</h3>",
        verbatim(entries),
        paragraph(
            "Cite the papers of the density functional, basis set or pretrained model that you "
            "used, too."
        ),
    ]
    if settings:
        parts.append(folded("All settings", table("", ["", ""], settings)))
    return parts


def _plain(value: Any) -> str:
    return "" if value is None else str(value)
