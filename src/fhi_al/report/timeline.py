"""The chart of what the ranks did when."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from fhi_al.analysis.accounting import KINDS, STARTUP, Command, Span, commands
from fhi_al.report.charts import Axis, Chart, Color, Panel, Series, Spans, array
from fhi_al.report.story import Story

_KINDS: dict[str, Color] = {
    "labels": "green",
    "isolated atoms": "green",
    "molecular dynamics": "blue",
    "training": "orange",
    "sampling": "sky",
    "evaluation": "purple",
    "export": "purple",
    "import": "purple",
    STARTUP: "grey",
}


def timeline(story: Story) -> Chart | None:
    """Who worked on what, when; the commands of a run one after the other."""
    found = commands(story.records)
    length = sum(command.ended - command.began for command in found)
    if length <= 0:
        return None
    unit, seconds = ("h", 3600.0) if length > 7200 else ("min", 60.0)
    if length < 600:
        unit, seconds = "s", 1.0
    spans: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    rows = _rank_names(found)
    offset = 0.0
    for command in found:
        shift = offset - command.began
        for span in _merged(command, 2 * length / 3000):
            if span.worker in rows:
                spans[span.kind].append((rows[span.worker], span.began + shift, span.ended + shift))
        offset += command.ended - command.began
    order = [STARTUP, *dict.fromkeys(KINDS.values())]
    names: dict[str, str] = {kind: _kind_name(kind) for kind in order}
    series: list[Series] = []
    for name in dict.fromkeys(names.values()):
        mine = [span for kind in order if names[kind] == name for span in spans.get(kind, ())]
        if mine:
            kind = next(kind for kind in order if names[kind] == name)
            series.append(
                Spans(
                    tuple(row for row, _, _ in mine),
                    array(began / seconds for _, began, _ in mine),
                    array((ended - began) / seconds for _, began, ended in mine),
                    name,
                    _KINDS[kind],
                )
            )
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
                tuple(series),
                rows=shown,
            ),
        ),
        panel_height=max(140, 34 * len(shown) + 30),
    )


def _kind_name(kind: str) -> str:
    if kind in ("labels", "isolated atoms"):
        return "labels"
    return "evaluation, export" if kind in ("evaluation", "export", "import") else kind


def _rank_names(found: Sequence[Command]) -> dict[str, str]:
    """Worker -> what its row is called, the ML ranks first."""
    ranks: Counter[str] = Counter()
    for command in found:
        here: Counter[str] = Counter(w for place in command.places for w in place.workers)
        ranks |= here
    ordered = sorted(ranks, key=lambda w: (not w.startswith("ml"), len(w), w))
    names = {}
    for worker in ordered:
        if worker.startswith("ml"):
            names[worker] = f"ML {worker.removeprefix('ml') or '0'}"
        else:
            size = f" ({ranks[worker]} ranks)" if ranks[worker] > 1 else ""
            names[worker] = f"reference {worker.removeprefix('reference')}{size}"
    return names


def _merged(command: Command, gap: float) -> Iterator[Span]:
    """The spans of a command, joined where no eye could see what is between them."""
    startup = [
        Span(worker, STARTUP, command.began, command.opened, 0.0)
        for place in command.places
        for worker in place.workers
    ]
    lists: dict[tuple[str, str], list[Span]] = defaultdict(list)
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
