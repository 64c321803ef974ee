"""The reference page of the settings says what the settings classes say."""

import runpy
from pathlib import Path

GENERATOR = Path(__file__).parents[2] / "docs" / "generate_settings.py"


def test_page_is_current():
    generator = runpy.run_path(str(GENERATOR))
    written = generator["PAGE"].read_text(encoding="utf-8")
    assert written == generator["page"](), "docs/settings.md is out of date: run `make docs`"


def test_bounds_defaults_and_choices_are_told():
    page = runpy.run_path(str(GENERATOR))["page"]()
    (ratio,) = (line for line in page.splitlines() if line.startswith("| `valid_ratio`"))
    assert "number > 0, < 1 | `0.1` |" in ratio
    (limit,) = (line for line in page.splitlines() if line.startswith("| `max_initial_set_size`"))
    assert "whole number ≥ 1 or none | none |" in limit
    (library,) = (line for line in page.splitlines() if line.startswith("| `library`"))
    assert "path | *must be given* |" in library
