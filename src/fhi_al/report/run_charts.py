"""Charts of what happened in a run, from its journal alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fhi_al.procedures.pipelines import words_of
from fhi_al.record.events import Candidate, Stage
from fhi_al.report.charts import (
    MOST_POINTS,
    Axis,
    Bars,
    Chart,
    Color,
    Level,
    Line,
    Panel,
    Points,
    Series,
    Symbol,
    array,
    thinned_line,
)
from fhi_al.report.story import Answer, Story
from fhi_al.report.walk_charts import REASONS

_COLORS: dict[Stage, Color] = {
    "initial_dataset": "sky",
    "converge_initial": "purple",
    "active_learning": "blue",
    "convergence": "green",
}
"""Of the stages that train, in their order."""

_USES: dict[str, tuple[str, Color]] = {
    "train": ("training", "blue"),
    "valid": ("validation", "orange"),
    "audit": ("sanity checks", "green"),
    "rejected": ("rejected", "red"),
}
_ORIGINS = {
    "initial": "initial",
    "threshold": "threshold",
    "overdue": "overdue",
    "unstable": "unstable",
    "audit": "sanity check",
    "pool": "pool",
}


# --- learning --------------------------------------------------------------------------------


def learning_curve(story: Story) -> Chart | None:
    """Validation errors against calls of the reference."""
    if not story.lessons:
        return None
    target = 1000 * story.state.rules.desired_acc
    panels = []
    for title, attribute, unit in (
        ("forces", "force_maes", "meV/Å"),
        ("energies", "energy_maes", "meV/atom"),
    ):
        series: list[Series] = []
        calls = array(lesson.calls for lesson in story.lessons)
        values = [1000 * array(getattr(lesson, attribute)) for lesson in story.lessons]
        lows, highs = array(v.min() for v in values), array(v.max() for v in values)
        series.append(Line(calls, lows, "best and worst member", "grey", thin=True))
        series.append(Line(calls, highs, "best and worst member", "grey", thin=True))
        means = array(v.mean() for v in values)
        for stage, color in _COLORS.items():
            mine = np.array([lesson.stage == stage for lesson in story.lessons])
            if mine.any():
                series.append(Points(calls[mine], means[mine], words_of(stage), color, size=6))
        if attribute == "force_maes":
            series.append(Level(target, f"target ({target:g} meV/Å)", "red"))
        panels.append(
            Panel(
                Axis("reference calls"),
                Axis(f"validation MAE / {unit}", log=True),
                tuple(series),
                title=title,
            )
        )
    return Chart(
        "learning_curve",
        "Learning curve",
        "Mean absolute error on the validation set, mean over the members that trained, after each "
        "training, against the number of reference calculations so far. The validation set grows "
        "with the run; in the final convergence it is that of all members together.",
        tuple(panels),
        columns=2,
        panel_height=300,
    )


def choices_panel(story: Story) -> Panel | None:
    """Error of the committee where the reference was asked, against its uncertainty there."""
    told = [
        (answer.candidate, answer.force_error)
        for answer in story.answers
        if answer.candidate is not None and answer.force_error is not None
    ]
    told = [pair for pair in told if np.isfinite(pair[0].uncertainty) and min(*_both(pair)) > 0]
    if not told:
        return None
    series: list[Series] = []
    for reason, (name, color, symbol) in REASONS.items():
        mine = [_both(pair) for pair in told if pair[0].reason == reason]
        if mine:
            x, y = 1000 * np.array(mine[:: 1 + len(mine) // MOST_POINTS]).T
            series.append(Points(x, y, name, color, symbol, size=7))
    return Panel(
        Axis("uncertainty when chosen / meV/Å", log=True),
        Axis("force MAE of the committee / meV/Å", log=True),
        tuple(series),
        title="chosen structures",
    )


def _both(pair: tuple[Candidate, float]) -> tuple[float, float]:
    return pair[0].uncertainty, pair[1]


# --- structures ------------------------------------------------------------------------------


def sets(story: Story) -> Chart | None:
    """How the datasets grew, and what they are made of."""
    if not story.state.books.entries and not any(size.rejected for size in story.sizes):
        return None
    calls = array(size.calls for size in story.sizes)
    series: list[Series] = []
    for use, (name, color) in _USES.items():
        values = array(getattr(size, use) for size in story.sizes)
        if values.any():
            series.append(Line(calls, values, name, color, steps=True))
    growth = Panel(Axis("reference calls"), Axis("structures"), tuple(series), title="growth")
    return Chart(
        "sets",
        "Datasets",
        "Left: the largest training set of a member, all validation sets together, sanity checks "
        "and rejected structures. Right: all structures by what chose them"
        + (" and by formula." if _n_systems(story) > 1 else "."),
        (growth, _origins(story)),
        columns=2,
        panel_height=280,
    )


def _n_systems(story: Story) -> int:
    return len({answer.formula for answer in story.answers if answer.formula})


def _origins(story: Story) -> Panel:
    splits = {entry.key: entry.split for entry in story.state.books.entries}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    several = _n_systems(story) > 1
    known = set()
    for answer in story.answers:
        reason = answer.candidate.reason if answer.candidate else "initial"
        rows = [_ORIGINS[reason]]
        if several and answer.formula:
            rows.append(answer.formula)
        known.add(answer.key)
        use = "rejected" if answer.key in story.state.books.rejected else splits.get(answer.key)
        if use is not None:
            for row in rows:
                counts[row][use] += 1
    for entry in story.state.books.entries:
        if entry.key not in known:
            counts["imported"][entry.split] += 1
    order = [row for row in ("imported", *_ORIGINS.values()) if row in counts]
    bars = (*order, *sorted(set(counts) - set(order)))
    series = []
    for used, (name, color) in _USES.items():
        values = array(counts[row][used] for row in bars)
        if values.any():
            series.append(Bars(bars, values, name, color))
    return Panel(Axis("structures"), Axis(""), tuple(series), title="origin", rows=bars)


def energies(story: Story) -> Chart | None:
    """Energies of all labels, and of the rejected structures among them."""
    rejected = story.state.books.rejected
    known = [answer for answer in story.answers if answer.energy is not None]
    if not known:
        return None
    heights = _above_median(known)
    good = [answer for answer in known if answer.key not in rejected]
    bad = [answer for answer in known if answer.key in rejected]
    without = [a for a in story.answers if a.energy is None and a.key in rejected]
    spans = [np.ptp([heights[a.key] for a in some]) if some else 0.0 for some in (known, good)]
    panels = []
    if spans[0] > 5 * spans[1] > 0:  # far outliers: of the others, nothing would be seen
        panels.append(_energies_panel(story, heights, good, bad, [], 1.0, "eV/atom", "all"))
        bad = []
    panels.append(_energies_panel(story, heights, good, bad, without, 1000.0, "meV/atom", ""))
    if len(panels) > 1:
        panels[1] = replace(panels[1], title="without outliers")
    return Chart(
        "energies",
        "Energies of labels and of rejected structures",
        "Energy of the reference, per atom, above the median of its chemical formula, in the order "
        "of the calculations. "
        + (
            "Rejected structures are marked; those without an energy lie at the lower edge."
            if bad or without or len(panels) > 1
            else "No structure was rejected."
        ),
        tuple(panels),
        columns=len(panels),
    )


def _above_median(answers: Sequence[Answer]) -> dict[str, float]:
    """Key -> energy in eV per atom, counted from the median of the formula."""
    by_formula: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_formula[answer.formula].append(answer)
    heights: dict[str, float] = {}
    for same in by_formula.values():
        values = array(answer.energy for answer in same)
        # Journals of early versions don't tell the number of atoms.
        sizes = np.array([max(answer.n_atoms, 1) for answer in same])
        above = (values - np.median(values)) / sizes
        heights |= dict(zip((answer.key for answer in same), above.tolist(), strict=True))
    return heights


def _energies_panel(
    story: Story,
    heights: Mapping[str, float],
    good: Sequence[Answer],
    bad: Sequence[Answer],
    without: Sequence[Answer],
    factor: float,
    unit: str,
    title: str,
) -> Panel:
    calls = array(answer.calls for answer in good)
    values = factor * array(heights[answer.key] for answer in good)
    series: list[Series] = [Points(*thinned_line(calls, values), "label", "blue", size=5)]
    marks: tuple[tuple[str, Symbol, Sequence[Answer]], ...] = (
        ("rejected", "cross", bad),
        ("rejected without an energy", "triangle", without),
    )
    lowest = min((heights[answer.key] for answer in (*good, *bad)), default=0.0)
    for name, symbol, some in marks:
        if some:
            reasons = [story.state.books.rejected[answer.key].reason for answer in some]
            series.append(
                Points(
                    array(answer.calls for answer in some),
                    factor * array(heights.get(answer.key, lowest) for answer in some),
                    name,
                    "red",
                    symbol,
                    size=9,
                    about=tuple(
                        f"{answer.key[:12]}: {reason}"
                        for answer, reason in zip(some, reasons, strict=True)
                    ),
                )
            )
    return Panel(
        Axis("reference calls"), Axis(f"energy above median / {unit}"), tuple(series), title=title
    )
