"""The procedures stay pure: they can't even reach a clock, a file, MPI or torch."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import fhi_al.procedures

MODULES = sorted(Path(fhi_al.procedures.__file__).parent.glob("*.py"))
DATA_TYPES = (
    "fhi_al.record.effects",
    "fhi_al.record.events",
    "fhi_al.record.papers",
    "fhi_al.record.registry",
    "fhi_al.procedures",
    "fhi_al.atoms.structure",
)
IMPURE = {"os", "time", "random", "pathlib", "subprocess", "socket", "threading", "tempfile", "io"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_imports_are_pure(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [str(node.module)]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            pure = top == "numpy" or (top in sys.stdlib_module_names and top not in IMPURE)
            assert pure or name.startswith(DATA_TYPES), f"{module.name} imports {name}"
