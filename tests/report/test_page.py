"""Pages hold together whatever their parts are called."""

from __future__ import annotations

import json
import re

import numpy as np

from fhi_al.report.charts import Axis, Chart, Line, Panel
from fhi_al.report.page import PageSection, page, table


def chart(name: str, title: str) -> Chart:
    x = np.arange(3.0)
    panel = Panel(Axis("x"), Axis("y"), (Line(x, x, "</script><b>", "blue"),))
    return Chart(name, title, "Below & above", (panel,))


def test_names_do_not_collide_and_texts_stay_texts():
    sections = [
        PageSection("Charts", [chart("theme", "A <i>title</i>"), chart("charts", "Data")]),
        PageSection("Theme", [table("", ["a", "b"], [["<x>", "1"], ["y", "2"]])]),
        PageSection("Empty"),
    ]
    text = page("<title> & more", "sub", [], sections)
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    ids = re.findall(r'id="([^"]*)"', text.replace(*_library(text)))
    assert len(ids) == len(set(ids))
    for link in re.findall(r'href="#([^"]*)"', outside):
        assert link in ids
    assert "&lt;title&gt; &amp; more" in outside
    assert "A &lt;i&gt;title&lt;/i&gt;" in outside
    assert '<td>&lt;x&gt;</td><td class="n">1</td>' in outside
    assert "Empty" not in outside
    (data,) = re.findall(r'<script id="page-data"[^>]*>(.*?)</script>', text)
    charts = json.loads(data)
    assert list(charts) == ["theme", "charts"]
    assert charts["theme"]["data"][0]["name"] == "</script><b>"


def _library(text: str) -> tuple[str, str]:
    """The text of plotly.js in a page, and what to put there instead."""
    (library,) = re.findall(r"<script>(/\*\*.*?)</script>", text, flags=re.DOTALL)
    return library, ""
