"""The site is built without a warning, and needs nothing from the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, ROOT

LOADED = re.compile(
    r"""<(?:script|img|iframe|link|source)\b[^>]*?(?:src|href)=["']?(https?:)?//[^>]*>"""
    r"""|@import|url\(["']?(https?:)?//""",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation; `strict` in mkdocs.yml makes every warning an error."""
    pytest.importorskip("mkdocs")
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(target)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_there(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert pages == built - {Path("404")}


def test_nothing_is_loaded_from_the_network(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".svg")]
    assert len(files) > 15
    for path in files:
        text = path.read_text(encoding="utf-8")
        found = [match[0] for match in LOADED.finditer(text)]
        assert not found, f"{path.relative_to(site)}: {found}"


def test_formulas_are_drawn_by_the_browser(site: Path) -> None:
    text = (site / "physics.html").read_text(encoding="utf-8")
    assert text.count("<math ") == text.count("</math>") > 20
    assert "\N{MATHEMATICAL BOLD CAPITAL F}" in text  # a force is a vector
    for left in ("arithmatex", "mathvariant", "\\mathbf", "$$"):
        assert left not in text, left
