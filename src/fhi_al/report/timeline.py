"""The chart of what the ranks did when."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from fhi_al.analysis.accounting import STARTUP, Command, Span, commands
from fhi_al.record.outcome import Worker
from fhi_al.report.charts import Axis, Chart, Color, Panel, Spans, array
from fhi_al.report.story import Story

_SHOWN: dict[str, tuple[str, Color]] = {
    STARTUP: (STARTUP, "grey"),
    "isolated atoms": ("labels", "green"),
    "labels": ("labels", "green"),
    "sampling": ("sampling", "sky"),
    "molecular dynamics": ("molecular dynamics", "blue"),
    "training": ("training", "orange"),
    "evaluation": ("evaluation, export", "purple"),
    "export": ("evaluation, export", "purple"),
    "import": ("evaluation, export", "purple"),
}
"""Kind of work, in its word -> what it is shown as, in the order of the legend."""

_OTHER: Color = "red"
"""Of other kinds, each under its own word."""


def timeline(story: Story) -> Chart | None:
    """Who worked on what, when; the commands of a run one after the other."""
    found = commands(story.records)
    length = sum(command.ended - command.began for command in found)
    if length <= 0:
        return None
    unit, seconds = ("h", 3600.0) if length > 7200 else ("min", 60.0)
    if length < 600:
        unit, seconds = "s", 1.0
    series: dict[tuple[str, Color], list[tuple[str, float, float]]] = {
        shown: [] for shown in _SHOWN.values()
    }
    rows = _rank_names(found)
    offset = 0.0
    for command in found:
        shift = offset - command.began
        for span in _merged(command, 2 * length / 3000):
            if span.worker in rows:
                mine = series.setdefault(_SHOWN.get(span.kind, (span.kind, _OTHER)), [])
                mine.append((rows[span.worker], span.began + shift, span.ended + shift))
        offset += command.ended - command.began
    shown = tuple(dict.fromkeys(rows.values()))
    return Chart(
        "timeline",
        "What the ranks did",
        "Each row is a worker: an ML rank, or a group of reference ranks; empty stretches are "
        "waiting. What is closer together than a pixel is joined."
        + (f" The {len(found)} commands of the run follow each other." if len(found) > 1 else ""),
        (
            Panel(
                Axis(f"wall time / {unit}", span=(0.0, length / seconds)),
                Axis(""),
                tuple(
                    Spans(
                        tuple(row for row, _, _ in mine),
                        array(began / seconds for _, began, _ in mine),
                        array((ended - began) / seconds for _, began, ended in mine),
                        name,
                        color,
                    )
                    for (name, color), mine in series.items()
                    if mine
                ),
                rows=shown,
            ),
        ),
        panel_height=max(140, 34 * len(shown) + 30),
    )


def _rank_names(found: Sequence[Command]) -> dict[Worker, str]:
    """Worker -> what its row is called, the ML ranks first."""
    ranks: Counter[Worker] = Counter()
    for command in found:
        here: Counter[Worker] = Counter(w for place in command.places for w in place.workers)
        ranks |= here
    return {
        worker: f"{worker} ({size} ranks)" if size > 1 else str(worker)
        for worker, size in sorted(ranks.items())
    }


def _merged(command: Command, gap: float) -> Iterator[Span]:
    """The spans of a command, joined where no eye could see what is between them."""
    startup = [
        Span(worker, STARTUP, command.began, command.opened, 0.0)
        for place in command.places
        for worker in place.workers
    ]
    lists: dict[tuple[Worker, str], list[Span]] = defaultdict(list)
    for span in [*startup, *command.spans]:
        lists[span.worker, span.kind].append(span)
    for (worker, kind), spans in lists.items():
        spans.sort(key=lambda span: span.began)
        began, ended = spans[0].began, spans[0].ended
        for span in spans[1:]:
            if span.began - ended > gap:
                yield Span(worker, kind, began, ended, 0.0)
                began = span.began
            ended = max(ended, span.ended)
        yield Span(worker, kind, began, ended, 0.0)
