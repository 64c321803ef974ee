"""Charts as PNG and SVG files, drawn by matplotlib: no display and no browser needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fhi_al.record.files import write_file
from fhi_al.report.charts import (
    COLORS,
    Bars,
    Chart,
    Diagonal,
    Line,
    Panel,
    Points,
    Series,
    Spans,
    Symbol,
    bar_width,
    names,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SYMBOLS: dict[Symbol, tuple[str, bool]] = {
    "circle": ("o", True),
    "ring": ("o", False),
    "cross": ("x", True),
    "diamond": ("D", False),
    "triangle": ("v", True),
    "square": ("s", False),
}
"""matplotlib's marker, and whether it is filled."""

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fhi_al",
}
_WIDTH, _DPI = 7.0, 150
_PIXELS_PER_INCH = 110.0
_LEGEND_LETTERS = 110


def save(chart: Chart, folder: Path) -> list[Path]:
    """Draw a chart.

    Args:
        chart: what to draw.
        folder: gets `<name>.png` and `<name>.svg`.

    Returns:
        The two files.

    Raises:
        StorageError: they can't be written.
    """
    from matplotlib import rc_context

    with rc_context(_STYLE):
        figure = draw(chart)
        png, svg = (folder / f"{chart.name}.{kind}" for kind in ("png", "svg"))
        write_file(png, lambda file: figure.savefig(file, format="png", dpi=_DPI), durable=False)
        # Without the date, the same data gives the same file.
        write_file(
            svg,
            lambda file: figure.savefig(file, format="svg", metadata={"Date": None}),
            durable=False,
        )
    return [png, svg]


def draw(chart: Chart) -> Figure:
    """Draw a chart, in the style that is in force."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    row = (chart.panel_height + 50) / _PIXELS_PER_INCH
    if all(panel.square for panel in chart.panels):
        row = _WIDTH / chart.columns
    height = chart.n_rows * row + (0.5 if len(names(chart.panels)) > 1 else 0.1)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(chart.n_rows, chart.columns, squeeze=False).ravel()
    handles: dict[str, Artist] = {}
    for ax, panel in zip(axes, chart.panels, strict=False):
        _draw_panel(ax, panel)
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(str(name), handle)
    for ax in axes[len(chart.panels) :]:
        ax.set_visible(False)
    order = [name for name in names(chart.panels) if name in handles]
    if len(order) > 1:
        figure.legend(
            [handles[name] for name in order],
            order,
            loc="outside upper left",
            ncols=max(1, min(len(order), _LEGEND_LETTERS // (max(map(len, order)) + 8))),
        )
    return figure


def _draw_panel(ax: Axes, panel: Panel) -> None:
    from matplotlib.ticker import LogLocator

    if panel.rows:
        ax.set_yticks(range(len(panel.rows)), panel.rows)
        ax.set_ylim(len(panel.rows) - 0.5, -0.5)
        ax.grid(False, axis="y")
    behind = np.zeros(len(panel.rows))
    for series in panel.series:
        if isinstance(series, Bars):
            ax.barh(
                range(len(series.rows)),
                series.values,
                left=behind,
                height=bar_width(panel.rows),
                color=COLORS[series.color],
                label=series.name,
            )
            behind = behind + series.values
        else:
            _draw(ax, panel, series)
    ax.set_xlabel(panel.x.title)
    ax.set_ylabel(panel.y.title)
    if panel.title:
        ax.set_title(panel.title)
    for axis, scale, log in (
        (ax.xaxis, ax.set_xscale, panel.x.log),
        (ax.yaxis, ax.set_yscale, panel.y.log),
    ):
        if log:
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
    if panel.x.span is not None:
        ax.set_xlim(*panel.x.span)
    if panel.y.span is not None:
        ax.set_ylim(*panel.y.span)
    if panel.square:
        ax.set_aspect("equal", adjustable="box")
    if panel.note:
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
        ax.text(0.03, 0.97, panel.note, transform=ax.transAxes, va="top", fontsize=8, bbox=paper)


def _draw(ax: Axes, panel: Panel, series: Series) -> None:
    color, label = COLORS[series.color], series.name or None
    if isinstance(series, Line):
        ax.plot(
            series.x,
            series.y,
            color=color,
            label=label,
            linewidth=0.7 if series.thin else 1.4,
            alpha=0.6 if series.thin else 1.0,
            linestyle="--" if series.dashed else "-",
            drawstyle="steps-post" if series.steps else "default",
        )
    elif isinstance(series, Points):
        marker, filled = _SYMBOLS[series.symbol]
        ax.plot(
            series.x,
            series.y,
            linestyle="none",
            marker=marker,
            markersize=series.size * 0.75,
            color=color,
            markerfacecolor=color if filled else "none",
            markeredgewidth=0.0 if series.symbol == "circle" else 1.2,
            alpha=0.75 if series.symbol == "circle" and len(series.x) > 200 else 1.0,
            label=label,
            # Many points make an SVG heavy and slow to open; their picture does not.
            rasterized=len(series.x) > 1000,
        )
    elif isinstance(series, Spans):
        width = bar_width(panel.rows)
        for row in dict.fromkeys(series.rows):
            mine = [i for i, name in enumerate(series.rows) if name == row]
            ax.broken_barh(
                [(series.begins[i], series.lengths[i]) for i in mine],
                (panel.rows.index(row) - width / 2, width),
                facecolors=color,
                label=label,
                linewidth=0,
            )
    elif isinstance(series, Diagonal):
        ends = [series.first, series.last]
        ax.plot(ends, ends, color=color, linewidth=1.0, linestyle="--", label=label, zorder=1)
    elif not isinstance(series, Bars):
        ax.axhline(series.y, color=color, linewidth=1.0, linestyle="--", label=label)
