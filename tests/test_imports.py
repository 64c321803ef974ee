"""Who may import whom: packages, MACE and the references' libraries; the procedures stay pure."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYOUT = runpy.run_path(str(ROOT / "docs" / "make_layout.py"))
MODULES: dict[str, ast.Module] = LAYOUT["modules"]()

MAY_IMPORT = {
    "errors": "",
    "atoms": "",
    "structure": "atoms",
    "record": "errors atoms",
    "procedures": "record",
    "md": "errors atoms record",
    "settings": "errors atoms record procedures md",
    "analysis": "errors atoms record procedures",
    "accounting": "analysis",
    "mpi": "errors",
    "fast": "",
    "folder": "errors record procedures md settings",
    "ensemble": "errors atoms record procedures md settings analysis fast folder",
    "reference": "errors atoms record settings ensemble",
    "testing": "atoms reference",
    "handlers": "errors atoms record procedures md settings analysis mpi folder ensemble reference",
    "workers": "errors record procedures md settings mpi folder ensemble reference handlers",
    "monitor": "errors record procedures analysis mpi folder",
    "report": "errors atoms record procedures md settings analysis folder ensemble",
    "run": "errors atoms record procedures settings analysis mpi folder reference workers monitor"
    " report",
    "planning": "errors atoms record procedures md settings analysis mpi fast folder ensemble"
    " reference handlers workers run",
    "cli": "errors atoms record settings analysis folder ensemble monitor report run planning",
    "__main__": "cli",
}
"""Packages and loose modules in reading order -> those that each imports, inside of functions too.
All of them stand above it, so nothing is imported upward, and there is no circle."""

BY_NAME = {
    "record": "ensemble handlers workers",
    "procedures": "md ensemble handlers",
    "settings": "reference",
}
"""Those that name others in a string, `module:name`, that is imported when it is wanted. So a table
may name what stands above it: only then it is listed here."""

HOMES = {
    "mace": "fhi_al.ensemble",
    "e3nn": "fhi_al.ensemble.conversion",
    "torch_ema": "fhi_al.ensemble.member",
    "so3krates_torch": "fhi_al.reference.so3lr",
    "tblite": "fhi_al.reference.xtb",
    "asi4py": "fhi_al.reference.asi",
    "pyscf": "fhi_al.reference.pyscf",
}
"""Libraries -> the only package or module that imports them: their next version is met there."""

NAMED = re.compile(r"fhi_al(\.\w+)+:\w+(\.\w+)*")

PURE = (
    "fhi_al.record.effects",
    "fhi_al.record.events",
    "fhi_al.record.papers",
    "fhi_al.record.registry",
    "fhi_al.procedures",
    "fhi_al.atoms.structure",
)
IMPURE = {"os", "time", "random", "pathlib", "subprocess", "socket", "threading", "tempfile", "io"}


def named(tree: ast.Module) -> list[str]:
    """What a module names as `module:name`, to be imported when it is wanted."""
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [text for text in strings if isinstance(text, str) and NAMED.fullmatch(text)]


def test_each_package_imports_what_it_may() -> None:
    found = LAYOUT["rooms"]()
    assert set(found) == set(MAY_IMPORT)
    for package, others in found.items():
        allowed = set(MAY_IMPORT[package].split())
        assert not (set(others) - allowed), [others[other] for other in set(others) - allowed]
        assert not (allowed - set(others)), f"{package} does not import that: change the table"


def test_nothing_is_imported_upward() -> None:
    order = list(MAY_IMPORT)
    for package, others in MAY_IMPORT.items():
        above = set(order[: order.index(package)])
        assert set(others.split()) <= above, package


def test_what_is_named_in_strings_is_there() -> None:
    names = [name for tree in MODULES.values() for name in named(tree)]
    assert len(names) > 10
    for name in names:
        module, _, attribute = name.partition(":")
        tree: ast.AST | None = MODULES.get(module)
        for part in attribute.split("."):
            inside = () if tree is None else ast.iter_child_nodes(tree)
            kinds = ast.FunctionDef | ast.ClassDef
            tree = next((x for x in inside if isinstance(x, kinds) and x.name == part), None)
        assert tree is not None, f"there is no {name}"


def test_what_stands_above_is_named_by_tables_only() -> None:
    floor, room = {package: n for n, package in enumerate(MAY_IMPORT)}, LAYOUT["room"]
    found = defaultdict(set)
    for module, tree in MODULES.items():
        for name in named(tree):
            here, there = room(module), room(name.partition(":")[0])
            if floor[there] > floor[here]:
                found[here].add(there)
    assert found == {package: set(others.split()) for package, others in BY_NAME.items()}


@pytest.mark.parametrize("library", HOMES)
def test_a_library_has_one_home(library: str) -> None:
    importers = {
        module
        for module, tree in MODULES.items()
        if library in {name.partition(".")[0] for name in LAYOUT["imports"](tree)}
    }
    assert importers
    home = HOMES[library]
    for module in importers:
        assert module == home or module.startswith(f"{home}."), f"{module} imports {library}"


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith("fhi_al.procedures")]
)
def test_procedures_are_pure(module: str) -> None:
    """They can't even reach a clock, a file, MPI or torch."""
    for name in LAYOUT["imports"](MODULES[module]):
        top = name.partition(".")[0]
        pure = top == "numpy" or (top in sys.stdlib_module_names and top not in IMPURE)
        assert pure or name.startswith(PURE), f"{module} imports {name}"
