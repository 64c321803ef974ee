"""A chart is drawn alike by both backends, and crowded series are thinned without losing peaks."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from fhi_al.report import to_matplotlib, to_plotly
from fhi_al.report.charts import (
    MOST_OF_A_LINE,
    MOST_POINTS,
    Axis,
    Bars,
    Chart,
    Diagonal,
    Level,
    Line,
    Panel,
    Points,
    Spans,
    log_ticks,
    running_mean,
    thinned_line,
    thinned_points,
)


def everything() -> Chart:
    """One of each kind of series."""
    x = np.linspace(1.0, 10.0, 7)
    gap = np.where(x > 8, np.nan, x)
    rows = ("upper", "lower")
    return Chart(
        "everything",
        "Everything",
        "",
        (
            Panel(
                Axis("x / Å", log=True),
                Axis("y / eV", log=True, span=(0.5, 200.0)),
                (
                    Line(x, x**2, "line", "blue"),
                    Line(x, gap, "gap", "orange", steps=True, thin=True),
                    Points(x, 3 * x, "points", "red", "cross", about=tuple("abcdef<")),
                    Level(20.0, "level"),
                    Diagonal(1.0, 10.0, "diagonal"),
                ),
                title="first",
                note="MAE 1",
            ),
            Panel(
                Axis("n"),
                Axis(""),
                (
                    Bars(rows, np.array([1.0, 2.0]), "part", "blue"),
                    Bars(rows, np.array([3.0, 4.0]), "rest", "orange"),
                ),
                rows=rows,
            ),
            Panel(
                Axis("time / s"),
                Axis(""),
                (
                    Spans(
                        ("lower", "lower", "upper"),
                        np.array([0.0, 5.0, 1.0]),
                        np.array([2.0, 1.0, 3.0]),
                        "work",
                        "green",
                    ),
                ),
                rows=rows,
            ),
        ),
        columns=2,
    )


def test_plotly_gets_all_series_in_their_panels():
    figure = json.loads(json.dumps(to_plotly.figure(everything()), allow_nan=False))
    by_axis = [trace["xaxis"] for trace in figure["data"]]
    assert by_axis == ["x"] * 5 + ["x2"] * 2 + ["x3"]
    line, gap, points, level = figure["data"][:4]
    np.testing.assert_allclose(line["y"], np.linspace(1, 10, 7) ** 2, rtol=1e-5)
    assert gap["y"][-1] is None
    assert points["text"][-1] == "&lt;"
    assert level["x"] == [1.0, 10.0]
    layout = figure["layout"]
    assert layout["yaxis"]["range"] == pytest.approx([math.log10(0.5), math.log10(200)], rel=1e-5)
    assert layout["yaxis2"]["categoryarray"] == ["lower", "upper"]  # from below
    lower_left, upper_right = layout["yaxis3"]["domain"], layout["yaxis2"]["domain"]
    assert lower_left[0] == 0.0
    assert lower_left[1] < upper_right[0]
    assert layout["xaxis2"]["domain"][0] > layout["xaxis"]["domain"][1]


def test_matplotlib_draws_all_series_in_their_panels(tmp_path):
    png, svg = to_matplotlib.save(everything(), tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    texts = [
        "".join(element.itertext()).strip()
        for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    ]
    named = {"line", "gap", "points", "level", "diagonal", "part", "rest", "work"}
    assert named | {"x / Å", "y / eV", "time / s", "upper", "MAE 1", "first"} <= set(texts)
    figure = to_matplotlib.draw(everything())
    first, bars, spans, nothing = figure.axes
    assert len(first.lines) == 5
    assert [bar.get_width() for bar in bars.patches] == [1.0, 2.0, 3.0, 4.0]
    assert [bar.get_x() for bar in bars.patches] == [0.0, 0.0, 1.0, 2.0]
    assert len(spans.collections) == 2
    assert not nothing.get_visible()
    again = to_matplotlib.save(everything(), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [png.read_bytes(), svg.read_bytes()]


def test_a_thinned_line_keeps_its_peaks():
    x = np.arange(50_000.0)
    y = np.sin(x / 1000)
    y[12_345], y[40_000] = 7.0, -7.0
    few_x, few_y = thinned_line(x, y)
    assert len(few_x) <= MOST_OF_A_LINE
    assert (few_y.max(), few_y.min()) == (7.0, -7.0)
    assert few_x[np.argmax(few_y)] == 12_345
    assert (np.diff(few_x) > 0).all()
    np.testing.assert_array_equal(thinned_line(x[:100], y[:100])[1], y[:100])


def test_thinned_points_keep_the_worst():
    true = np.random.default_rng(1).normal(size=20_000)
    off = np.random.default_rng(2).normal(size=20_000)
    chosen = thinned_points(true, true + off)
    assert len(chosen) == MOST_POINTS
    worst = np.argsort(-np.abs(off))[: MOST_POINTS // 4]
    assert set(worst) <= set(chosen)
    assert len(set(chosen)) == len(chosen)


def test_ticks_of_logarithmic_axes():
    ticks = log_ticks(np.array([0.3, 40.0, np.nan, -1.0]))
    assert [tick for tick in ticks if 0.3 <= tick <= 40] == [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    many = log_ticks(np.array([1e-3, 1e6]))
    assert {np.log10(tick) % 1 for tick in many} == {0.0}
    assert log_ticks(np.array([20.0, 30.0])) == []
    assert log_ticks(np.zeros(3)) == []


def test_running_mean():
    np.testing.assert_allclose(running_mean(np.array([3.0, 0.0, 3.0, 6.0]), 3), [1.5, 2, 3, 4.5])
