"""Charts as figures of plotly.js, for pages: plain data, without its Python classes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np

from fhi_al.atoms.structure import FloatArray
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
    log_ticks,
    names,
)

_SYMBOLS: dict[Symbol, str] = {
    "circle": "circle",
    "ring": "circle-open",
    "cross": "x-thin-open",
    "diamond": "diamond-open",
    "triangle": "triangle-down",
    "square": "square-open",
}
_LEFT, _RIGHT, _BOTTOM = 70, 40, 52
_EDGE, _TITLE, _LEGEND = 14, 20, 30
_ROW_GAP, _COLUMN_GAP = 76, 0.085
"""Pixels around and between the panels, and for what may stand above them; between columns, a share
of the width."""
_LETTERS = 130
"""In a line of the legend."""


def figure(chart: Chart) -> dict[str, Any]:
    """What `Plotly.newPlot` takes: `data` and `layout`, without colours of text and paper.

    Those are for the page to choose, by day and by night.
    """
    height = chart.n_rows * chart.panel_height + (chart.n_rows - 1) * _ROW_GAP
    told_names = names(chart.panels)
    legend = len(told_names) > 1
    lines = -(-sum(len(name) + 8 for name in told_names) // _LETTERS) if legend else 0
    top = _EDGE + _LEGEND * lines + _TITLE * any(panel.title for panel in chart.panels)
    layout: dict[str, Any] = {
        "height": height + top + _BOTTOM,
        "margin": {"l": _LEFT, "r": _RIGHT, "t": top, "b": _BOTTOM},
        "showlegend": legend,
        "legend": {
            "orientation": "h",
            "yref": "container",
            "y": 1.0,
            "yanchor": "top",
            "x": 0.0,
            "xanchor": "left",
        },
        "barmode": "stack",
        "hovermode": "closest",
        "annotations": [],
    }
    data: list[dict[str, Any]] = []
    told: set[str] = set()
    for index, panel in enumerate(chart.panels):
        number = str(index + 1) if index else ""
        layout[f"xaxis{number}"], layout[f"yaxis{number}"] = _axes(chart, index, height)
        layout["annotations"] += _texts(panel, number)
        x_range = layout[f"xaxis{number}"].get("range")
        for series in panel.series:
            trace = _trace(series, panel, x_range)
            trace |= {
                "name": series.name,
                "legendgroup": series.name,
                "showlegend": bool(series.name) and series.name not in told,
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
            }
            told.add(series.name)
            data.append(trace)
    return {"data": data, "layout": layout}


def _axes(chart: Chart, index: int, height: int) -> tuple[dict[str, Any], dict[str, Any]]:
    panel = chart.panels[index]
    row, column = divmod(index, chart.columns)
    number = str(index + 1) if index else ""
    gap = _COLUMN_GAP if chart.columns > 1 else 0.0
    width = (1 - gap * (chart.columns - 1)) / chart.columns
    left = column * (width + gap)
    top = 1 - row * (chart.panel_height + _ROW_GAP) / height
    x: dict[str, Any] = {
        "title": {"text": panel.x.title, "standoff": 8, "font": {"size": 13}},
        "domain": [round(left, 5), round(left + width, 5)],
        "anchor": f"y{number}",
        "type": "log" if panel.x.log else "linear",
    }
    y: dict[str, Any] = {
        "title": {"text": panel.y.title, "standoff": 8, "font": {"size": 13}},
        "domain": [max(0.0, round(top - chart.panel_height / height, 5)), round(top, 5)],
        "anchor": f"x{number}",
        "type": "log" if panel.y.log else "linear",
    }
    for axis, wanted in ((x, panel.x), (y, panel.y)):
        if wanted.log:
            ticks = log_ticks(_values(panel, of_x=axis is x))
            if ticks:
                axis |= {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
        if wanted.span is not None:
            ends = [math.log10(end) if wanted.log else end for end in wanted.span]
            axis["range"] = [float(f"{end:.6g}") for end in ends]
    if panel.rows:
        y |= {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": list(reversed(panel.rows)),
            "automargin": True,
            "showgrid": False,
        }
    if panel.square:
        y |= {"scaleanchor": f"x{number}", "constrain": "domain"}
        x |= {"constrain": "domain"}
    return x, y


def _values(panel: Panel, *, of_x: bool) -> FloatArray:
    """All coordinates of lines and points along an axis."""
    points = [series for series in panel.series if isinstance(series, Line | Points)]
    return np.concatenate([*(series.x if of_x else series.y for series in points), np.ones(0)])


def _texts(panel: Panel, number: str) -> list[dict[str, Any]]:
    found = []
    for text, y, anchor in ((panel.title, 1.0, "bottom"), (panel.note, 0.98, "top")):
        if text:
            found.append(
                {
                    "text": text.replace("\n", "<br>"),
                    "xref": f"x{number} domain",
                    "yref": f"y{number} domain",
                    "x": 0.0 if anchor == "bottom" else 0.02,
                    "y": y,
                    "xanchor": "left",
                    "yanchor": anchor,
                    "align": "left",
                    "showarrow": False,
                }
            )
    return found


def _trace(series: Series, panel: Panel, x_range: Any) -> dict[str, Any]:
    color = COLORS[series.color]
    if isinstance(series, Line):
        return {
            "type": "scatter",
            "mode": "lines",
            "x": _plain(series.x),
            "y": _plain(series.y),
            "opacity": 0.6 if series.thin else 1.0,
            "line": {
                "color": color,
                "width": 1.0 if series.thin else 2.0,
                "dash": "dash" if series.dashed else "solid",
                "shape": "hv" if series.steps else "linear",
            },
        }
    if isinstance(series, Points):
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "x": _plain(series.x),
            "y": _plain(series.y),
            "marker": {
                "color": color,
                "size": series.size,
                "symbol": _SYMBOLS[series.symbol],
                "line": {"width": 1.6 if series.symbol != "circle" else 0, "color": color},
            },
            "opacity": 0.75 if series.symbol == "circle" and len(series.x) > 200 else 1.0,
        }
        if series.about:
            trace["text"] = [escape(text) for text in series.about]
            trace["hovertemplate"] = "%{text}<br>(%{x}, %{y})<extra></extra>"
        return trace
    if isinstance(series, Bars | Spans):
        bars: dict[str, Any] = {
            "type": "bar",
            "orientation": "h",
            "y": list(series.rows),
            "width": bar_width(panel.rows),
            "marker": {"color": color, "line": {"width": 0}},
        }
        if isinstance(series, Bars):
            return {**bars, "x": _plain(series.values)}
        return {
            **bars,
            "x": _plain(series.lengths),
            "base": _plain(series.begins),
            "hovertemplate": f"{series.name}: %{{x:.4g}} from %{{base:.4g}}<extra></extra>",
        }
    if isinstance(series, Diagonal):
        ends = [series.first, series.last]
        return _guide(ends, ends, color)
    xs = x_range or _extent(panel)
    if panel.x.log and x_range:
        xs = [10**end for end in x_range]
    return _guide(xs, [series.y, series.y], color)


def _guide(x: list[float], y: list[float], color: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _plain(x),
        "y": _plain(y),
        "hoverinfo": "skip",
        "line": {"color": color, "width": 1.5, "dash": "dash"},
    }


def _extent(panel: Panel) -> list[float]:
    values = _values(panel, of_x=True)
    return [float(np.nanmin(values)), float(np.nanmax(values))] if len(values) else [0.0, 1.0]


def _plain(values: Iterable[float]) -> list[float | None]:
    """Numbers for JSON, with as many digits as an eye could tell apart, and None for nan."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
