"""The reference pages say what the settings classes and the parsers say."""

import runpy

import pytest
from pages import DOCS

from fhi_al.cli import COMMANDS


@pytest.mark.parametrize("name", ["settings", "commands"])
def test_page_is_current(name):
    generator = runpy.run_path(str(DOCS / f"generate_{name}.py"))
    written = generator["PAGE"].read_text(encoding="utf-8")
    assert written == generator["page"](), f"docs/{name}.md is out of date: run `make docs`"


def test_bounds_defaults_and_choices_are_told():
    page = runpy.run_path(str(DOCS / "generate_settings.py"))["page"]()
    (ratio,) = (line for line in page.splitlines() if line.startswith("| `valid_ratio`"))
    assert "number > 0, < 1 | `0.1` |" in ratio
    (limit,) = (line for line in page.splitlines() if line.startswith("| `max_initial_set_size`"))
    assert "whole number ≥ 1 or none | none |" in limit
    (library,) = (line for line in page.splitlines() if line.startswith("| `library`"))
    assert "path | *must be given* |" in library


def test_every_command_has_a_section_with_its_options():
    page = runpy.run_path(str(DOCS / "generate_commands.py"))["page"]()
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    assert list(sections) == list(COMMANDS)
    assert "| `--walltime HH:MM:SS` |" in sections["FHI_AL"]
    assert "### FHI_AL-journal repair" in sections["FHI_AL-journal"]
    assert "| `--until N` |" in sections["FHI_AL-journal"]
    assert "| `[DIR]` |" in sections["FHI_AL-journal"]


def test_what_looks_like_markup_is_shown():
    page = runpy.run_path(str(DOCS / "generate_commands.py"))["page"]()
    assert "&lt;FILE&gt;-rejected.xyz" in page


def test_the_script_of_the_pictures_finds_what_it_draws_with():
    script = runpy.run_path(str(DOCS / "make_pictures.py"))
    assert sorted(path.name for path in script["PICTURES"].iterdir()) == [
        "layout.svg",
        "live.svg",
        "report.png",
        "status.svg",
    ]
