"""Errors as rows of a table, for terminals and for pages."""

from __future__ import annotations

from collections.abc import Sequence

from ase import units

from fhi_al.analysis.scores import Scores

TITLE = "Errors: forces (F) in meV/Å, energies (E) in meV/atom"
WITH_STRESS = ", stress (S) in GPa"


def brief(value: float) -> str:
    """A number with three digits, or as many as it has before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def score_table(scores: Sequence[Scores]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows of a table of errors; columns that would be empty are left out."""
    quantities = [("F", "forces", 1000.0), ("E", "energy", 1000.0)]
    title = TITLE
    if any(found.stress is not None for found in scores):
        quantities.append(("S", "stress", 1 / units.GPa))
        title += WITH_STRESS
    header = ["", "n"]
    header += [f"{letter} {kind}" for letter, _, _ in quantities for kind in ("MAE", "RMSE", "max")]
    rows = []
    for found in scores:
        row = [found.species or found.system or found.who, str(found.n_structures)]
        for _, name, factor in quantities:
            value = getattr(found, name)
            row += (
                [brief(factor * number) for number in (value.mae, value.rmse, value.max)]
                if value is not None
                else ["", "", ""]
            )
        rows.append(row)
    return title, header, rows
