"""What the page on the design says of files, packages and imports is so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from pages import DOCS, PAGES, ROOT, code_blocks, table_rows

PAGE = DOCS / "design.md"
LAYOUT = runpy.run_path(str(DOCS / "make_layout.py"))
SOURCE: Path = LAYOUT["SOURCE"]
SHOWN = [*PAGES, *(ROOT / "examples").rglob("*.yaml"), *SOURCE.rglob("*.yaml")]


def packages() -> list[list[str]]:
    """Rows of the table of packages: name, what it is, the modules to begin with."""
    return [row for row in table_rows(PAGE) if re.fullmatch(r"`\w+/`", row[0])]


def public() -> str:
    """The list of imports for users."""
    ((_, text),) = code_blocks(PAGE, "python")
    return text


def test_the_picture_is_drawn_from_the_imports() -> None:
    drawn = LAYOUT["PICTURE"].read_text(encoding="utf-8")
    assert drawn == LAYOUT["picture"](), "docs/images/layout.svg is out of date: run `make docs`"


def test_all_packages_are_told_in_the_words_of_their_docstrings() -> None:
    told = {name.strip("`/"): f"{words}." for name, words, _ in packages()}
    assert told == LAYOUT["purposes"]()


def test_packages_are_told_after_those_that_they_import() -> None:
    rooms = LAYOUT["rooms"]()
    order = [name.strip("`/") for name, _, _ in packages()]
    for number, package in enumerate(order):
        assert not set(rooms[package]) & set(order[number + 1 :]), package


def test_modules_to_begin_with_are_there() -> None:
    for name, _, modules in packages():
        for module in modules.split(", "):
            assert (SOURCE / name.strip("`") / module.strip("`")).is_file(), (name, module)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_of_ours_that_are_named_are_there(page: Path) -> None:
    for name in re.findall(r"(?<![\w/.])(?:\w+/)+\w+\.py\b", page.read_text(encoding="utf-8")):
        assert any((base / name).is_file() for base in (ROOT, SOURCE)), f"{page.name}: {name}"


def test_imports_for_users_can_be_imported() -> None:
    names: dict[str, object] = {}
    exec(public(), names)
    assert callable(names["commands"])
    assert callable(names["check_engine"])


def test_what_is_shown_to_users_is_in_the_list() -> None:
    lines = re.findall(r"^from (fhi_al[\w.]*) import (.+)$", public(), re.M)
    listed = {f"{module}.{name}" for module, names in lines for name in names.split(", ")}
    found = set()
    for page in SHOWN:
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(r"^from (fhi_al[\w.]*) import (.+)$", text, re.M):
            found |= {f"{module}.{name}" for name in names.split(", ")}
        found |= set(re.findall(r"\bfhi_al(?:\.\w+)+\.\w+\b(?! import)", text))
    assert len(found) >= 10
    assert found <= listed, found - listed
