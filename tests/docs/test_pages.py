"""What the pages say of settings and code is true: keys exist, YAML is valid, Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pages import DOCS, PAGES, ROOT, code_blocks, table_rows

from fhi_al.settings.active_learning import ActiveLearning, Misc, Parallel
from fhi_al.settings.base import Section
from fhi_al.settings.mace import Architecture, General, MaceMisc, Training
from fhi_al.settings.md import MdSettings
from fhi_al.settings.reference import ENGINES

SECTIONS: dict[str, tuple[type[Section], ...]] = {
    "GENERAL": (General,),
    "ARCHITECTURE": (Architecture,),
    "TRAINING": (Training,),
    "ACTIVE_LEARNING": (ActiveLearning,),
    "MD": (MdSettings,),
    "REFERENCE": tuple(kind.section for kind in ENGINES.values()),
    "PARALLEL": (Parallel,),
    "MISC": (MaceMisc, Misc),
}
MOVING = [DOCS / "howto" / "from-fhi-al.md", DOCS / "howto" / "from-aims-pax.md"]
READMES = [ROOT / "README.md", *sorted((ROOT / "examples").rglob("README.md"))]
BY_NAME = {"ids": lambda page: page.stem}


def keys(section: str, *, old: bool = False) -> set[str]:
    """Names of a section's settings, with old names or without."""
    kinds = SECTIONS[section]
    return {name for kind in kinds for name in (*kind.model_fields, *(kind.renamed if old else ()))}


def refers(text: str) -> list[tuple[str, str]]:
    """All settings that a text names with their section."""
    return re.findall(rf"\b({'|'.join(SECTIONS)})\.(\w+)", text)


@pytest.mark.parametrize("page", PAGES, **BY_NAME)
def test_settings_that_are_named_exist(page: Path) -> None:
    for section, key in refers(page.read_text(encoding="utf-8")):
        assert key in keys(section), f"{page.name}: there is no {section}.{key}"


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.parent.name)
def test_links_of_the_readmes_lead_somewhere(page: Path) -> None:
    """The links between the pages themselves are checked as the site is built."""
    links = re.findall(r"\]\((?!https:)([^)#]+)", page.read_text(encoding="utf-8"))
    for link in links:
        assert (page.parent / link).exists(), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES, **BY_NAME)
def test_yaml_has_keys_that_exist(page: Path) -> None:
    for _, text in code_blocks(page, "yaml"):
        for section, content in yaml.safe_load(text).items():
            settings = content if isinstance(content, list) else [content]
            unknown = {key for one in settings for key in one} - keys(section, old=True)
            assert not unknown, f"{page.name}: {section} has no {unknown}"


@pytest.mark.parametrize("page", MOVING, **BY_NAME)
def test_tables_of_keys_lead_to_settings(page: Path) -> None:
    """Each row names a setting of ours in its second column, a command, or nothing at all."""
    rows = list(table_rows(page))
    assert len(rows) > 10
    for row in rows:
        here = row[1]
        assert here == "-" or refers(here) or here.startswith("`FHI_AL"), row


@pytest.mark.parametrize("page", MOVING, **BY_NAME)
def test_defaults_that_are_told_are_those_of_the_settings(page: Path) -> None:
    """Each row that tells of another default does it in these words."""
    for row in table_rows(page):
        if not re.search("default.* not", row[-1]):
            continue
        default = re.match(r"(?:.*; )?default ([\w.]+), not", row[-1])
        assert default, row
        ((section, key),) = refers(row[1])
        (kind,) = SECTIONS[section]
        value = kind.model_fields[key].default
        assert yaml.safe_load(default[1]) == value, row


def test_defaults_of_the_successor_are_told() -> None:
    """Or the test before this one would have nothing to look at."""
    successor = DOCS / "howto" / "from-aims-pax.md"
    assert sum("default" in row[-1] for row in table_rows(successor)) > 12


def test_keys_of_the_original_are_those_of_its_manual() -> None:
    keys = (ROOT / "tests" / "settings" / "manual_keys.txt").read_text(encoding="utf-8").split()
    told = [name for row in table_rows(MOVING[0]) for name in re.findall(r"`(\w+)`", row[0])]
    assert len(told) > 20
    assert set(told) <= set(keys)


def test_the_examples_of_own_engines_keep_their_contract(tmp_path: Path) -> None:
    blocks = dict(code_blocks(DOCS / "howto" / "reference-engine.md", "python"))
    for name, text in blocks.items():
        (tmp_path / name).write_text(text)
    checks = [name for name in blocks if name.startswith("check_")]
    assert len(checks) == 2
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for name in checks:
        subprocess.run(
            [sys.executable, "-W", "error", name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            check=True,
            timeout=60,
        )
