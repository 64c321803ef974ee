"""What mkdocs does with our pages beyond its plugins: formulas become MathML.

Browsers draw it themselves, so that no script from the network is needed.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\([(\[])(?P<latex>.*?)\\[)\]]</\1>', re.DOTALL
)
_BOLD = re.compile(r'<mi mathvariant="(?P<variant>bold(?:-italic)?)">(?P<letter>.+?)</mi>')


def on_page_content(text: str, **_: Any) -> str:
    """Replace the formulas in a page's HTML; mkdocs calls this."""
    return _FORMULA.sub(_mathml, text)


def _mathml(formula: re.Match[str]) -> str:
    display = "block" if formula[2] == "[" else "inline"
    return _BOLD.sub(_bold, convert(html.unescape(formula["latex"]), display=display))


def _bold(symbol: re.Match[str]) -> str:
    # Browsers know no mathvariant but `normal`; Unicode has bold letters of their own.
    script, size, _, letter = unicodedata.name(html.unescape(symbol["letter"])).split()
    variant = symbol["variant"].replace("-", " ").upper()
    name = f"MATHEMATICAL {variant} {size} {letter}".replace("LETTER ", "")
    assert script in ("LATIN", "GREEK")
    return f"<mi>{unicodedata.lookup(name)}</mi>"
