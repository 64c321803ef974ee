"""Folders with input files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from input_texts import SMALLEST, WATER


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes input files: `folder(al=..., mace=..., geometry=..., control=...)`; None: no file."""

    def write(
        al: str | None = SMALLEST,
        mace: str | None = "",
        geometry: str | None = WATER,
        control: str | None = None,
    ) -> Path:
        for name, text in (
            ("active_learning_settings.yaml", al),
            ("mace_settings.yaml", mace),
            ("geometry.in", geometry),
            ("control.in", control),
        ):
            (tmp_path / name).unlink(missing_ok=True)
            if text is not None:
                (tmp_path / name).write_text(text)
        return tmp_path

    return write


@pytest.fixture
def aims(tmp_path: Path) -> Path:
    """The files that FHI-aims needs: a library (empty) and species defaults."""
    (tmp_path / "libaims.so").touch()
    (tmp_path / "species").mkdir()
    for name in ("01_H", "08_O", "14_Si"):
        symbol = name.split("_")[1]
        (tmp_path / "species" / f"{name}_default").write_text(
            f"  species {symbol}\n    nucleus {int(name[:2])}\n"
        )
    return tmp_path
