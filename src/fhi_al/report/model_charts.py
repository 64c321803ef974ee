"""Charts of how good models are, from their predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import units

from fhi_al.analysis.predictions import Predictions
from fhi_al.analysis.scores import Calibration, Score, Scores, calibration, score
from fhi_al.atoms.structure import FloatArray
from fhi_al.report.charts import (
    Axis,
    Bars,
    Chart,
    Diagonal,
    Panel,
    Points,
    array,
    thinned_points,
)
from fhi_al.report.score_tables import brief


def parity(
    predictions: Predictions, members: Sequence[int], data: str, *, name: str = "parity"
) -> Chart:
    """Predicted against true energies, forces and, where there are any, stresses.

    Args:
        predictions: of some models.
        members: places of those whose mean is shown.
        data: what the dataset is called.
        name: of the chart.
    """
    chosen = list(members)
    energies, forces, stress = (
        values[chosen].mean(axis=0)
        for values in (predictions.energies, predictions.forces, predictions.stress)
    )
    formulas = np.array(predictions.formulas)
    zero = np.zeros(len(predictions))
    for formula in set(formulas.tolist()):
        mine = formulas == formula
        zero[mine] = np.median(predictions.true_energies[mine])
    sizes = predictions.sizes
    panels = [
        _parity_panel(
            1000 * (predictions.true_energies - zero) / sizes,
            1000 * (energies - zero) / sizes,
            "energy",
            "meV/atom",
        ),
        _parity_panel(predictions.true_forces, forces, "force", "eV/Å", 1000, "meV/Å"),
    ]
    there = np.isfinite(predictions.true_stress)
    if there.any():
        true, predicted = predictions.true_stress[there], stress[there]
        panels.append(_parity_panel(true / units.GPa, predicted / units.GPa, "stress", "GPa"))
    who = "the mean of the models" if len(chosen) > 1 else "the model"
    return Chart(
        name,
        f"Predicted against true values: {data}",
        f"Predictions of {who} for {len(predictions)} structures ({data}) against the reference. "
        "Energies are counted from the median of their chemical formula.",
        tuple(panels),
        columns=len(panels),
        panel_height=340 if len(panels) == 2 else 240,
    )


def _parity_panel(
    true: FloatArray,
    predicted: FloatArray,
    quantity: str,
    unit: str,
    factor: float = 1.0,
    error_unit: str = "",
) -> Panel:
    true, predicted = true.ravel(), predicted.ravel()
    found = score(factor * (predicted - true))
    shown = thinned_points(true, predicted)
    both = np.concatenate([true, predicted])
    margin = 0.05 * (np.ptp(both) or 1.0)
    span = (float(both.min() - margin), float(both.max() + margin))
    return Panel(
        Axis(f"reference {quantity} / {unit}", span=span),
        Axis(f"predicted {quantity} / {unit}", span=span),
        (
            Diagonal(*span, ""),
            Points(true[shown], predicted[shown], "", "blue", size=5),
        ),
        note=_note(found, error_unit or unit),
        square=True,
    )


def _note(found: Score | None, unit: str) -> str:
    if found is None:
        return ""
    numbers = (("MAE", found.mae), ("RMSE", found.rmse), ("max", found.max))
    return "\n".join(f"{name} {brief(value)} {unit}" for name, value in numbers)


def calibration_panel(found: Calibration, title: str = "") -> Panel:
    """True error of the force on each atom against the members' spread."""
    shown = thinned_points(found.spread, found.error)
    spread, error = 1000 * found.spread[shown], 1000 * found.error[shown]
    positive = np.concatenate([spread[spread > 0], error[error > 0]])
    ends = float(np.quantile(positive, 0.002) / 1.5), float(positive.max() * 1.5)
    return Panel(
        Axis("members' spread on an atom / meV/Å", log=True, span=ends),
        Axis("error of the committee / meV/Å", log=True, span=ends),
        (
            Points(spread, error, "atoms", "sky", size=4),
            Diagonal(*ends, "error = spread"),
            Points(
                1000 * found.bin_spread,
                1000 * found.bin_error,
                "root mean square of groups",
                "red",
                "diamond",
                size=9,
            ),
        ),
        title=title,
        note=f"error / spread {found.ratio:.2f}\nrank correlation {found.rank_correlation:.2f}",
    )


def calibration_chart(predictions: Predictions, data: str) -> Chart | None:
    """How far the members' disagreement can be believed; None for a single model."""
    found = calibration(predictions)
    if found is None:
        return None
    return Chart(
        "calibration",
        "Error against uncertainty",
        f"{CALIBRATION} Data: {data}, {len(found.spread)} atoms.",
        (calibration_panel(found),),
        panel_height=380,
    )


CALIBRATION = (
    "True error of the committee's force on an atom against the spread of its members' forces, "
    "both per component. Groups of equally many atoms on the dashed line mean that the spread is "
    "a fair estimate of the error; above it, the committee is too sure of itself."
)


def species_chart(scores: Sequence[Scores]) -> Chart | None:
    """Force errors by element and by formula."""
    parts = [found for found in scores if (found.species or found.system) and found.forces]
    if not parts:
        return None
    rows = tuple(found.species or found.system for found in parts)
    maes = array(1000 * found.forces.mae for found in parts if found.forces)
    return Chart(
        "species",
        "Force errors by element and by formula",
        "Mean absolute error of the force components, with the mean of all models, on atoms of an "
        "element, or in structures of a formula.",
        (
            Panel(
                Axis("force MAE / meV/Å"),
                Axis(""),
                (Bars(rows, maes, "force MAE", "blue"),),
                rows=rows,
            ),
        ),
        panel_height=max(120, 30 * len(rows) + 20),
    )
