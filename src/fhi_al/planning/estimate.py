"""What a trial says of a run: tables, the bottleneck, and which layout would do better."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fhi_al.analysis.accounting import LABELS
from fhi_al.planning.costs import Costs, RankSplit, WorkSizes
from fhi_al.planning.forecast import Forecast, forecast
from fhi_al.planning.trial import LabelTrial, ModelTrial
from fhi_al.procedures.pipelines import words_of
from fhi_al.procedures.reading import read_rules
from fhi_al.procedures.rules import Rules
from fhi_al.record.events import Opened
from fhi_al.record.outcome import Place
from fhi_al.workers.layout import Layout
from fhi_al.workers.placement import describe_places

COMPILED_AFTER_S = 80.0
COMPILED_SPEEDUP = 4.0
"""Assumed where they are not measured: 4 to 19 times on the examples, after a minute or two."""

_WORTH = 0.9
"""A layout is named as better where it takes less than this part of the time."""
_WIDTH = 100


@dataclass(frozen=True)
class Trial:
    """Everything that an estimate is made from.

    Attributes:
        opened: the event with which the run would begin.
        layout: of the ranks.
        places: of the ranks.
        reference: a calculation.
        models: training and molecular dynamics.
        costs: what follows from these.
        shape: of the work.
        startup_s: seconds that a command needs before it works.
        peak_memory_mb: of each rank.
    """

    opened: Opened
    layout: Layout
    places: tuple[Place, ...]
    reference: LabelTrial
    models: ModelTrial
    costs: Costs
    shape: WorkSizes
    startup_s: float
    peak_memory_mb: tuple[float, ...] = ()

    @property
    def rules(self) -> Rules:
        """Of the run."""
        return read_rules(self.opened.settings)

    @property
    def split(self) -> RankSplit:
        """The layout, as a forecast takes it."""
        if self.layout.size == 1:
            return RankSplit(0, (1,))
        return RankSplit(len(self.layout.ml), tuple(len(group) for group in self.layout.groups))

    def forecast(self, split: RankSplit) -> Forecast:
        """What the run takes with these ranks."""
        return forecast(self.opened, self.costs, self.shape, split)


def print_plan(trial: Trial, directory: Path) -> None:
    """Show what a run would take."""
    console = Console(highlight=False, force_terminal=False, width=_WIDTH)
    expected = trial.forecast(trial.split)
    console.print(f"\nPlan of a run in {directory.absolute()}", soft_wrap=True)
    console.print(trial.layout.describe())
    console.print(f"{describe_places(trial.places)}\n")
    _print_measured(trial, console)
    _print_expected(trial, expected, console)
    for line in (*assumptions(trial, expected), *advice(trial, expected)):
        console.print(textwrap.fill(f"- {line}", _WIDTH, subsequent_indent="  "), soft_wrap=True)


def _print_measured(trial: Trial, console: Console) -> None:
    table = Table(title="Measured")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    group = len(trial.layout.groups[0])
    ranks = f"{group} rank{'s' * (group > 1)}" if trial.costs.parallel_engine else "one rank"
    table.add_row("the start of a command", f"{trial.startup_s:.4g}")
    table.add_row(f"a calculation of the reference on {ranks}", f"{trial.costs.label_s:.4g}")
    table.add_row("... the first, with the start", f"{trial.reference.first_s:.4g}")
    if trial.costs.sample_step_s:
        table.add_row("an MD step of the pretrained model", f"{trial.costs.sample_step_s:.4g}")
    walkers = -(-trial.rules.num_trajectories // len(trial.layout.ml))
    for name, rates in (("", trial.models.eager), (", compiled", trial.models.compiled)):
        if rates is not None:
            md = rates.md_step_s + walkers * rates.md_walker_s
            table.add_row(f"an MD step of {walkers} trajectories, all models{name}", f"{md:.4g}")
            step = f"{rates.train_step_s:.4g}"
            table.add_row(
                f"a training step of a model, {trial.shape.batch_size} structures{name}", step
            )
    console.print(table)
    peaks = ", ".join(f"{peak:.0f}" for peak in trial.peak_memory_mb)
    console.print(
        f"Models of {trial.models.n_parameters} parameters; memory by rank: {peaks} MB (a run "
        "needs somewhat more)."
    )


def _print_expected(trial: Trial, expected: Forecast, console: Console) -> None:
    table = Table(title="Expected, at most")
    gpus = sum(place.device.startswith("cuda") for place in trial.places)
    cores = sum(place.threads for place in trial.places)
    table.add_column("stage")
    for name in ("reference calls", "wall time", "core-hours", *(["GPU-hours"] * bool(gpus))):
        table.add_column(name, justify="right")
    rows = [(words_of(s.stage), s.calls, s.wall_s) for s in expected.stages]
    for name, calls, wall in (*rows, ("in all", expected.calls, expected.wall_s)):
        if name == "in all":
            table.add_section()
        hours = wall / 3600
        cells = [name, str(calls), rough_duration(wall), _few(cores * hours)]
        table.add_row(*cells, *([_few(gpus * hours)] * bool(gpus)))
    console.print(table)


def rough_duration(seconds: float) -> str:
    """A time in the unit that fits."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.1f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def _few(hours: float) -> str:
    return "< 0.01" if 0 < hours < 0.01 else f"{hours:.2f}" if hours < 100 else f"{hours:.0f}"


def assumptions(trial: Trial, expected: Forecast) -> Iterator[str]:
    """What the estimate rests on, in sentences."""
    rules = trial.rules
    yield (
        "At most: as if desired_acc were never reached and no convergence ended before "
        "max_final_epochs. A run that learns well ends earlier."
    )
    if expected.limited_by:
        yield (
            f"Active learning would end with: {expected.limited_by}; "
            f"{expected.md_steps} MD steps in all, "
            f"{expected.train_size} structures to train on."
        )
    yield (
        "How often a structure is chosen is a guess: uncertainties that fall as the training set "
        f"grows and scatter by a third, with threshold_factor {rules.threshold_factor:g} and a "
        f"window of {rules.uncertainty_window}."
    )
    if trial.models.compiled is not None:
        yield (
            f"Compiled code is expected after {COMPILED_AFTER_S:.0f} s of molecular dynamics, and "
            "of training: a run compiles its own."
        )
    elif trial.costs.compiled is not None:
        yield (
            f"Compiled code is assumed to be {COMPILED_SPEEDUP:g} times as fast, after "
            f"{COMPILED_AFTER_S:.0f} s of molecular dynamics, and of training: it was not measured "
            "here."
        )
    if rules.auto_atomic_energies and trial.shape.isolated:
        yield "Isolated atoms are counted like other calculations; most take less."
    if rules.initial_method == "aimd":
        yield "Each step of the ab initio MD is a calculation of the reference."


def advice(trial: Trial, expected: Forecast) -> Iterator[str]:
    """What takes the time, and which layout would take less."""
    labels = expected.busy_s.get(LABELS, 0.0)
    others = sorted(
        ((s, kind) for kind, s in expected.busy_s.items() if kind != LABELS and s > 0),
        reverse=True,
    )
    ml = sum(seconds for seconds, _ in others)
    parts = ", ".join(f"{kind} {rough_duration(seconds)}" for seconds, kind in others[:3])
    if trial.split.alone:
        yield f"The time goes to: labels {rough_duration(labels)}, {parts}."
    else:
        slower = "the reference" if labels / len(trial.split.groups) > ml else "the models"
        yield (
            f"The bottleneck is {slower}: the reference groups are busy for "
            f"{100 * expected.reference_share:.0f}% of the time, the ML ranks for "
            f"{100 * ml / expected.wall_s:.0f}% ({parts})."
        )
    if expected.wall_s < 1:
        return
    best, found = _best(trial, trial.layout.size)
    if best != trial.split and found.wall_s < _WORTH * expected.wall_s:
        note = " (if the reference scales ideally)" if trial.costs.parallel_engine else ""
        yield (
            f"With the same ranks, PARALLEL: {{ml_ranks: {best.ml}, reference_groups: "
            f"{len(best.groups)}}} would take {rough_duration(found.wall_s)}{note}."
        )
        return
    if trial.split.alone:
        for size in (2, 3, 4):
            best, found = _best(trial, size)
            if found.wall_s < _WORTH * expected.wall_s:
                yield (
                    f"With `mpirun -n {size}`, if there are as many cores, it would take "
                    f"{rough_duration(found.wall_s)} (ml_ranks: {best.ml}, reference_groups: "
                    f"{len(best.groups)})."
                )
                return
        yield "More ranks would not make it much faster."
        return
    for size in range(2, trial.layout.size):
        best, found = _best(trial, size)
        if found.wall_s * _WORTH < expected.wall_s:
            yield (
                f"{size} ranks would take {rough_duration(found.wall_s)} (ml_ranks: {best.ml}, "
                f"reference_groups: {len(best.groups)}): hardly more, for fewer core-hours."
            )
            return
    yield "No other layout of these ranks would be much faster."


def _best(trial: Trial, size: int) -> tuple[RankSplit, Forecast]:
    """The layout of this many ranks that takes the least time."""
    found = [(split, trial.forecast(split)) for split in layouts(trial, size)]
    return min(found, key=lambda pair: pair[1].wall_s)


def layouts(trial: Trial, size: int) -> Iterator[RankSplit]:
    """The ways to split this many ranks that may be worth it."""
    if size == 1:
        yield RankSplit(0, (1,))
        return
    gpus = sum(place.device.startswith("cuda") for place in trial.places)
    most_ml = min(trial.rules.ensemble_size, size - 1, gpus or size)
    for ml in range(1, most_ml + 1):
        rest = size - ml
        for groups in sorted({1, 2, 3, 4, 6, 8, 12, 16, rest}):
            if groups <= min(rest, 64):
                bounds = [rest * g // groups for g in range(groups + 1)]
                yield RankSplit(ml, tuple(b - a for a, b in itertools.pairwise(bounds)))
