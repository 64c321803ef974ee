"""What a chart shows, as data: drawn by `to_plotly` for the page, by `to_matplotlib` for files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from fhi_al.atoms.structure import FloatArray, IntArray

COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "grey": "#8A8F98",
}
"""Colours that people with any colour vision tell apart, on white and on black paper.

Source: M. Okabe, K. Ito, Color Universal Design (2008).
"""

Color: TypeAlias = Literal["blue", "orange", "green", "red", "purple", "sky", "grey"]
Symbol: TypeAlias = Literal["circle", "ring", "cross", "diamond", "triangle", "square"]

MOST_POINTS, MOST_OF_A_LINE = 2000, 1000
"""Points of one series in a chart; more would make pages heavy, and not more readable."""


@dataclass(frozen=True, eq=False)
class Line:
    """Points joined by a line; nan leaves a gap.

    Attributes:
        steps: the value holds until the next point.
        thin: drawn as a background for other series.
    """

    x: FloatArray
    y: FloatArray
    name: str
    color: Color
    dashed: bool = False
    steps: bool = False
    thin: bool = False


@dataclass(frozen=True, eq=False)
class Points:
    """Points on their own.

    Attributes:
        size: diameter in points.
        about: what a page tells of each point that is pointed at; empty: nothing but numbers.
    """

    x: FloatArray
    y: FloatArray
    name: str
    color: Color
    symbol: Symbol = "circle"
    size: float = 5.0
    about: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Bars:
    """One part of horizontal bars, stacked in the order of the series.

    Attributes:
        rows: names of the bars, from the top.
        values: length of this part in each.
    """

    rows: tuple[str, ...]
    values: FloatArray
    name: str
    color: Color


@dataclass(frozen=True, eq=False)
class Spans:
    """Stretches of the x axis, in rows.

    Attributes:
        rows: in which row each is.
        begins: of each.
        lengths: of each.
    """

    rows: tuple[str, ...]
    begins: FloatArray
    lengths: FloatArray
    name: str
    color: Color


@dataclass(frozen=True)
class Level:
    """A value of y, as a dashed line through the whole panel."""

    y: float
    name: str
    color: Color = "grey"


@dataclass(frozen=True)
class Diagonal:
    """Where x and y are equal, from one value to another."""

    first: float
    last: float
    name: str
    color: Color = "grey"


Series: TypeAlias = Line | Points | Bars | Spans | Level | Diagonal


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        title: what it is, with the unit.
        log: logarithmic.
        span: from and to; None: as the data want it.
    """

    title: str
    log: bool = False
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """A pair of axes and what is drawn in it.

    Attributes:
        title: above it; empty where the chart's title says all.
        note: numbers in its upper left corner.
        square: one unit is as long on both axes.
        rows: of bars and spans, from the top.
    """

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    title: str = ""
    note: str = ""
    square: bool = False
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        name: of its files, and of its place in a page.
        title: what it shows, in a few words.
        caption: what there is to see.
        panels: row by row.
        columns: panels side by side.
        panel_height: in pixels of a page.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 1
    panel_height: int = 260

    @property
    def n_rows(self) -> int:
        """Rows of panels."""
        return -(-len(self.panels) // self.columns)


def array(values: Iterable[float | None]) -> FloatArray:
    """Numbers as an array, with nan for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def thinned_line(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Leave out points of a long line, but no peak: the highest and lowest of each stretch stay.

    Args:
        x: (n,) ascending.
        y: (n,) with them.
    """
    if len(x) <= MOST_OF_A_LINE:
        return x, y
    chosen: list[int] = []
    for part in np.array_split(np.arange(len(x)), MOST_OF_A_LINE // 2):
        chosen += sorted({int(part[np.argmin(y[part])]), int(part[np.argmax(y[part])])})
    return x[chosen], y[chosen]


def thinned_points(x: FloatArray, y: FloatArray) -> IntArray:
    """Choose points of a crowded parity plot: those farthest off, and some of the others.

    Args:
        x: (n,) true values.
        y: (n,) predicted values.

    Returns:
        (at most MOST_POINTS,) indices, ascending, the same at every call.
    """
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    worst = np.argsort(-np.abs(y - x))[: MOST_POINTS // 4]
    others = np.setdiff1d(np.arange(len(x)), worst)
    chance = np.random.default_rng(0)
    some = chance.choice(others, MOST_POINTS - len(worst), replace=False)
    return np.sort(np.concatenate([worst, some]))


def log_ticks(values: FloatArray) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2 and 5 of each decade, fewer where there are many decades.

    Args:
        values: on the axis; those that are not positive don't count.

    Returns:
        The ticks; none where the values are so near each other that these would be too few.
    """
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values) or values.max() < 6 * values.min():
        return []
    first, last = np.floor(np.log10(values.min())) - 1, np.ceil(np.log10(values.max())) + 1
    steps = (1, 2, 5) if last - first <= 5 else (1,)
    return [
        float(f"{step * 10.0**exponent:.1g}")
        for exponent in range(int(first), int(last) + 1)
        for step in steps
    ]


def bar_width(rows: Sequence[str]) -> float:
    """Width of bars, as a share of their distance: a few shouldn't fill the panel."""
    return 0.7 if len(rows) > 3 else 0.5


def running_mean(values: FloatArray, window: int) -> FloatArray:
    """Mean of each value and those around it, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first = np.maximum(index - window // 2, 0)
    last = np.minimum(index + window // 2 + 1, len(values))
    mean: FloatArray = (sums[last] - sums[first]) / (last - first)
    return mean


def names(panels: Sequence[Panel]) -> dict[str, Series]:
    """Each name of a legend, once, with the first series that bears it."""
    found: dict[str, Series] = {}
    for panel in panels:
        for series in panel.series:
            if series.name:
                found.setdefault(series.name, series)
    return found
