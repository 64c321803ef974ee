"""Charts of molecular dynamics: uncertainty and temperature along the trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fhi_al.atoms.structure import FloatArray
from fhi_al.report.charts import (
    Axis,
    Chart,
    Color,
    Level,
    Line,
    Panel,
    Points,
    Series,
    Symbol,
    array,
    running_mean,
    thinned_line,
)
from fhi_al.report.story import Story, Walk

MOST_PANELS = 12
"""Trajectories that are drawn; of more, those with the most chosen structures."""

REASONS: dict[str, tuple[str, Color, Symbol]] = {
    "threshold": ("chosen: above threshold", "red", "ring"),
    "overdue": ("chosen: overdue", "purple", "diamond"),
    "unstable": ("chosen: broke down", "red", "cross"),
    "audit": ("sanity check", "green", "square"),
    "pool": ("for the pool", "orange", "circle"),
}
"""Why a structure was chosen -> what it is called, and how it is marked."""


def uncertainty(story: Story) -> Chart | None:
    """Uncertainty, threshold and chosen structures of each trajectory."""
    panels = []
    time, axis = _clock(story)
    highest = max((max(walk.uncertainties, default=0) for walk in story.walks.values()), default=0)
    for number, walk in _drawn(story):
        steps = time * array(walk.steps)
        x, y = thinned_line(steps, 1000 * array(walk.uncertainties))
        series: list[Series] = [Line(x, y, "uncertainty", "blue", thin=len(x) > 300)]
        x, y = _without_gaps(steps, 1000 * array(walk.thresholds))
        if len(x):
            series.append(Line(*thinned_line(x, y), "threshold", "orange"))
        series += _chosen(walk, time)
        panels.append(
            Panel(
                axis,
                Axis("uncertainty / meV/Å", span=(0.0, 1050 * highest)),
                tuple(series),
                title=f"trajectory {number}",
            )
        )
    if not panels:
        return None
    return Chart(
        "uncertainty",
        "Uncertainty along the trajectories",
        "Disagreement of the committee at each check, the threshold that it was compared with "
        f"({story.state.rules.threshold_factor:g} times the mean of the latest "
        f"{story.state.rules.uncertainty_window}), and the structures that were chosen for the "
        "reference (overdue: after long without a crossing)." + _left_out(story),
        tuple(panels),
        columns=2 if len(panels) > 1 else 1,
        panel_height=190 if len(panels) > 2 else 260,
    )


def _chosen(walk: Walk, time: float) -> Iterator[Points]:
    for reason, (name, color, symbol) in REASONS.items():
        mine = [c for c in walk.chosen if c.reason == reason and np.isfinite(c.uncertainty)]
        if mine:
            yield Points(
                time * array(c.step for c in mine),
                1000 * array(c.uncertainty for c in mine),
                name,
                color,
                symbol,
                size=8 if len(mine) < 40 else 5,
                about=tuple(
                    f"{c.key[:12]}{f': {c.detail}' if c.detail else ''}, MD step {c.step}"
                    for c in mine
                ),
            )


def temperature(story: Story) -> Chart | None:
    """Kinetic temperature along each trajectory."""
    time, axis = _clock(story)
    target = _one_temperature(story.last.inputs)
    panels = []
    for number, walk in _drawn(story):
        if not walk.steps:
            continue
        steps, kelvin = time * array(walk.steps), array(walk.temperatures)
        window = max(5, len(kelvin) // 20)
        series: list[Series] = [
            Line(*thinned_line(steps, kelvin), "at each check", "sky", thin=True),
            Line(
                *thinned_line(steps, running_mean(kelvin, window)),
                "running mean",
                "blue",
            ),
        ]
        if target is not None:
            series.append(Level(target, f"thermostat ({target:g} K)", "orange"))
        panels.append(
            Panel(axis, Axis("temperature / K"), tuple(series), title=f"trajectory {number}")
        )
    if not panels:
        return None
    return Chart(
        "temperature",
        "Temperature of the trajectories",
        "Kinetic temperature at each check and its running mean. Single values of a system of "
        f"{story.first.n_atoms} atoms scatter by {_scatter(story):.0f} %." + _left_out(story),
        tuple(panels),
        columns=2 if len(panels) > 1 else 1,
        panel_height=170 if len(panels) > 2 else 240,
    )


def _scatter(story: Story) -> float:
    """Relative standard deviation of the temperature of N atoms in %: sqrt(2 / 3N)."""
    return 100 * float(np.sqrt(2 / (3 * story.first.n_atoms)))


def _one_temperature(inputs: Any) -> float | None:
    """The thermostat's temperature in K, where all trajectories have the same, all the time."""
    found = {
        tuple(value) if isinstance(value, list) else value
        for name, value in inputs.items()
        if name.startswith("MD") and name.endswith((".temperature_K", ".temperature_end_K"))
    } - {None}
    ensembles = {inputs[name] for name in inputs if name.endswith(".stat_ensemble")}
    if len(found) != 1 or "nve" in ensembles:
        return None
    (only,) = found
    return float(only[0]) if isinstance(only, tuple) and len(only) == 1 else None


def _clock(story: Story) -> tuple[float, Axis]:
    """What an MD step is on the axis of time: ps, where all trajectories have the same step."""
    found = {value for name, value in story.last.inputs.items() if name.endswith(".timestep_fs")}
    if len(found) == 1:
        return found.pop() / 1000, Axis("MD time / ps")
    return 1.0, Axis("MD step")


def _drawn(story: Story) -> list[tuple[int, Walk]]:
    eager = sorted(story.walks, key=lambda number: (-len(story.walks[number].chosen), number))
    return [(number, story.walks[number]) for number in sorted(eager[:MOST_PANELS])]


def _left_out(story: Story) -> str:
    if len(story.walks) <= MOST_PANELS:
        return ""
    return (
        f" The {MOST_PANELS} of {len(story.walks)} trajectories with the most chosen structures "
        "are shown."
    )


def _without_gaps(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    there = np.isfinite(y)
    return x[there], y[there]
