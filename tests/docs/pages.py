"""Reads the pages of the documentation: code blocks, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def code_blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """Fenced blocks of a page.

    Args:
        page: Markdown file.
        language: as the fence has it.

    Yields:
        The block's title ("" if it has none) and its text.
    """
    fences = re.compile(rf"^```{language}(?: +title=\"(.+?)\")? *\n(.*?)^```", re.M | re.S)
    yield from fences.findall(page.read_text(encoding="utf-8"))


def table_rows(page: Path) -> Iterator[list[str]]:
    """Rows of all tables of a page, as cells, without heads."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if line.startswith("|") and not {"---"} & {*line.split(" "), *following.split(" ")}:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
