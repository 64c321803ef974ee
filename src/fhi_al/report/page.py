"""A web page in one file: text, tables and interactive charts, with nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from fhi_al.report.charts import Chart
from fhi_al.report.to_plotly import figure


@dataclass
class PageSection:
    """A part of the page.

    Attributes:
        title: its heading, and its entry in the table of contents.
        parts: HTML, and charts.
    """

    title: str
    parts: list[str | Chart] = field(default_factory=list)

    @property
    def charts(self) -> list[Chart]:
        """Its charts, in order."""
        return [part for part in self.parts if isinstance(part, Chart)]


def page(title: str, subtitle: str, head: Iterable[str], sections: Sequence[PageSection]) -> str:
    """Put a page together.

    Args:
        title: plain text.
        subtitle: plain text.
        head: HTML above the first section.
        sections: those without parts are left out.

    Returns:
        HTML that needs no network and no other file.
    """
    from plotly.offline import get_plotlyjs

    sections = [section for section in sections if section.parts]
    charts = {chart.name: figure(chart) for section in sections for chart in section.charts}
    # A browser would end the script at the first of these, even inside a string.
    data = json.dumps(charts, separators=(",", ":")).replace("</", "<\\/")
    body = "\n".join(_section(section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{_file("page.css")}</style>
</head>
<body>
<div class="frame">
<nav><div>
{_contents(sections)}
<button id="page-theme" type="button">light / dark</button>
</div></nav>
<main>
<h1>{escape(title)}</h1>
<p class="subtitle">{escape(subtitle)}</p>
{"".join(head)}
{body}
</main>
</div>
<script>{get_plotlyjs()}</script>
<script id="page-data" type="application/json">{data}</script>
<script>
{_file("page.js")}</script>
</body>
</html>
"""


def _file(name: str) -> str:
    return files("fhi_al.report").joinpath(name).read_text(encoding="utf-8")


def _anchor(title: str) -> str:
    return "-".join(["section", *title.lower().split()])


def _contents(sections: Iterable[PageSection]) -> str:
    entries = []
    for section in sections:
        charts = "".join(
            f'<li><a href="#figure-{chart.name}">{escape(chart.title)}</a></li>'
            for chart in section.charts
        )
        below = f"<ul>{charts}</ul>" if charts else ""
        link = f'<a href="#{_anchor(section.title)}">{escape(section.title)}</a>'
        entries.append(f"<li>{link}{below}</li>")
    return f"<ul>{''.join(entries)}</ul>"


def _section(section: PageSection) -> str:
    parts = [_chart(part) if isinstance(part, Chart) else part for part in section.parts]
    title = escape(section.title)
    return f'<section id="{_anchor(section.title)}"><h2>{title}</h2>\n{"".join(parts)}</section>'


def _chart(chart: Chart) -> str:
    return (
        f'<figure id="figure-{chart.name}"><h3>{escape(chart.title)}</h3>'
        f'<div class="scroll"><div class="chart" id="chart-{chart.name}"></div></div>'
        f"<figcaption>{escape(chart.caption)}</figcaption></figure>\n"
    )


# --- HTML of parts ---------------------------------------------------------------------------


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text)}</p>\n"


def listed(items: Iterable[str]) -> str:
    """Plain texts as a list."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts; those that look like numbers stand on the right."""
    rows = [list(row) for row in rows]
    numeric = [
        bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(header))
    ]
    kinds = [' class="n"' if flag else "" for flag in numeric]

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)
        )

    caption = f"<caption>{escape(title)}</caption>" if title else ""
    head = f"<tr>{line('th', header)}</tr>" if any(header) else ""
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{caption}{head}{body}</table></div>\n'


def _is_number(text: str) -> bool:
    return not text or text[:1].isdigit() or text[:1] in "-–"


def folded(title: str, inside: str) -> str:
    """HTML that is shown on demand."""
    return f"<details><summary>{escape(title)}</summary>{inside}</details>\n"


def verbatim(text: str) -> str:
    """Plain text with its line breaks."""
    return f"<pre>{escape(text)}</pre>\n"
