"""A snapshot of a run for people: as tables, and as one plain line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fhi_al.analysis.accounting import LABELS, shares
from fhi_al.folder.lock import STALE_S
from fhi_al.monitor.snapshot import Accuracy, Condition, Limit, RoleShare, Snapshot, TrajectoryView
from fhi_al.procedures.state import DONE

_COLOURS: dict[Condition, str] = {
    "starting": "cyan",
    "running": "green",
    "stopping": "yellow",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
    "crashed": "red",
}
_STATES = {
    "running": "running",
    "labelling": "waiting for label",
    "training": "waiting for training",
    "finished": "done",
}
_BAR = 24
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def draw(snapshot: Snapshot, *, bars: bool = False, rows: int | None = None) -> RenderableType:
    """The whole snapshot.

    Args:
        snapshot: to be shown.
        bars: whether there may be progress bars; for a terminal.
        rows: at most so many trajectories are listed; the others are counted.
    """
    parts: list[RenderableType] = [_title(snapshot), _facts(snapshot, bars)]
    if snapshot.trajectories:
        parts += ["", _trajectories(snapshot.trajectories, rows)]
    if snapshot.roles:
        parts += ["", _roles(snapshot.roles)]
    return Group(*parts)


def in_words(snapshot: Snapshot) -> str:
    """The most important of a snapshot in one line, for logs."""
    parts = [_now(snapshot)] if snapshot.in_work else []
    parts += [f"{limit.what} {_of(limit)}" for limit in snapshot.limits]
    if snapshot.accuracy.force_mae is not None:
        parts.append(f"force MAE {_mae(snapshot.accuracy)}")
    if snapshot.seconds_left is not None:
        parts.append(_left(snapshot))
    stage = snapshot.stage_words
    if snapshot.condition != "running":
        stage += f", {snapshot.condition}"
    if snapshot.why:
        stage += f" ({snapshot.why})"
    stage += f", for {short_duration(snapshot.stage_seconds)}"
    return f"{stage}: {'; '.join(parts)}" if parts else stage


def short_duration(seconds: float) -> str:
    """A time that passes, to two units."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def _title(snapshot: Snapshot) -> Text:
    text = Text()
    text.append(snapshot.name, style="bold")
    if snapshot.stage != DONE:
        text.append(f": {snapshot.stage_words}")
    if snapshot.goal != "run":
        text.append(f" (goal: {snapshot.goal.replace('_', ' ')})")
    text.append(", ")
    text.append(snapshot.condition, style=_COLOURS[snapshot.condition])
    if snapshot.host is not None:
        text.append(f" on {snapshot.host} (process {snapshot.pid})")
    if snapshot.silent_seconds is not None and snapshot.silent_seconds > STALE_S:
        text.append(f", no sign of life for {short_duration(snapshot.silent_seconds)}", style="red")
    if snapshot.condition != "running":
        when = time.localtime(snapshot.last_record)
        text.append(time.strftime(", last record %Y-%m-%d %H:%M:%S", when))
    if snapshot.why:
        text.append(f"\n{snapshot.why}")
    return text


def _facts(snapshot: Snapshot, bars: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, fact in _lines(snapshot, bars):
        table.add_row(name, fact)
    return table


def _lines(snapshot: Snapshot, bars: bool) -> list[tuple[str, RenderableType]]:
    lines: list[tuple[str, RenderableType]] = []
    time_line = short_duration(snapshot.seconds)
    if snapshot.commands > 1:
        time_line += f" in {snapshot.commands} commands"
    if snapshot.stage != DONE:
        time_line += f", {short_duration(snapshot.stage_seconds)} of it in this stage"
    lines.append(("time", time_line))
    if snapshot.in_work:
        lines.append(("now", _now(snapshot)))
    if snapshot.seconds_left is not None:
        lines.append(("left", _left(snapshot)))
    for limit in snapshot.limits:
        lines.append((limit.what, _with_bar(limit, bars)))
    sets = f"{snapshot.train_size} structures to train on, {snapshot.n_valid} to validate on"
    if snapshot.n_audit:
        sets += f", {snapshot.n_audit} sanity checks"
    lines.append(("data", sets))
    if snapshot.accuracy.force_mae is not None:
        lines.append(("validation", f"force MAE {_mae(snapshot.accuracy)}"))
    lines.append(("reference", _reference(snapshot)))
    queue = snapshot.queue
    if any((queue.in_work, queue.handed_out, queue.wanted)):
        waiting = f"{queue.in_work} in work, {queue.handed_out} handed out, {queue.wanted} wanted"
        lines.append(("label queue", waiting))
    if snapshot.moves:
        for threshold in snapshot.thresholds:
            name = f"threshold {threshold.system}".strip()
            if threshold.value is None:
                fact = f"none yet: {threshold.n_estimates} of {threshold.warmup} estimates"
            else:
                fact = (
                    f"{_meV(threshold.value)}, {threshold.factor:g} times the mean of the last "
                    f"{threshold.window} uncertainties"
                )
            lines.append((name, fact))
    return lines


def _now(snapshot: Snapshot) -> str:
    def words(kind: str, count: int) -> str:
        if kind == LABELS:
            return f"{count} label" if count == 1 else f"{count} labels"
        return kind

    return ", ".join(
        f"{words(work.kind, work.count)} for {short_duration(work.seconds)}"
        for work in snapshot.in_work
    )


def _left(snapshot: Snapshot) -> str:
    assert snapshot.seconds_left is not None
    first = next(limit for limit in snapshot.limits if limit.seconds == snapshot.seconds_left)
    # Converging ends sooner where it no longer helps, and never later.
    most = "at most" if snapshot.at_most else "about"
    pace = f"{first.what}, {_pace(first)}"
    return (
        f"{most} {short_duration(snapshot.seconds_left)} in this stage at the present pace ({pace})"
    )


def _pace(limit: Limit) -> str:
    assert limit.per_second is not None
    for unit, seconds in (("s", 1), ("min", _MINUTE), ("h", _HOUR)):
        if limit.per_second * seconds >= 1:
            return f"{limit.per_second * seconds:.3g} a {unit}"
    return f"{limit.per_second * _DAY:.3g} a day"


def _of(limit: Limit) -> str:
    return f"{limit.number:,} of {limit.limit:,}"


def _with_bar(limit: Limit, bars: bool) -> RenderableType:
    if not bars:
        return _of(limit)
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(limit.limit, min(limit.number, limit.limit), width=_BAR), _of(limit))
    return row


def _mae(accuracy: Accuracy) -> str:
    assert accuracy.force_mae is not None
    text = f"{_meV(accuracy.force_mae)} (wanted: {_meV(accuracy.target)}"
    if accuracy.n_valid < accuracy.min_valid:
        text += f", on at least {accuracy.min_valid} structures"
    text += ")"
    if accuracy.energy_mae is not None:
        text += f", energy MAE {1000 * accuracy.energy_mae:.2f} meV/atom"
    return text


def _reference(snapshot: Snapshot) -> str:
    text = f"{snapshot.reference_calls} calls"
    if snapshot.reference_calls:
        each = snapshot.reference_seconds / snapshot.reference_calls
        text += f", {each:.2g} s each" if each < _MINUTE else f", {short_duration(each)} each"
    return f"{text}, {snapshot.n_rejected} rejected"


def _trajectories(trajectories: Sequence[TrajectoryView], rows: int | None) -> Table:
    ends = {one.max_steps for one in trajectories}
    last = ends.pop() if len(ends) == 1 else None
    step = "MD step" if last is None else f"MD step\nof {last:,}"
    table = _table("trajectory", "state", step, "uncertainty\nmeV/Å", "threshold\nmeV/Å", "T\nK")
    shown = trajectories if rows is None else trajectories[:rows]
    for one in shown:
        crossed = one.threshold is not None and (one.uncertainty or 0.0) > one.threshold
        table.add_row(
            f"{one.number} {one.system}".strip(),
            _STATES[one.state],
            f"{one.step:,}",
            Text(_milli(one.uncertainty), style="yellow" if crossed else ""),
            _milli(one.threshold),
            "" if one.temperature_K is None else f"{one.temperature_K:.0f}",
        )
    if hidden := trajectories[len(shown) :]:
        counts = Counter(_STATES[one.state] for one in hidden)
        rest = ", ".join(f"{count} {state}" for state, count in counts.items())
        table.add_row(f"{len(hidden)} more", rest, "", "", "", "")
    return table


def _roles(roles: Sequence[RoleShare]) -> Table:
    table = _table("role", "with", "ranks", "busy")
    for use in roles:
        table.add_row(use.role, shares(use.kinds, 1.0), str(use.ranks), f"{use.busy:.0%}")
    return table


def _table(*columns: str) -> Table:
    """A table whose first two columns hold words, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index > 1 else "left")
    return table


def _meV(value: float) -> str:
    return f"{_milli(value)} meV/Å"


def _milli(value: float | None) -> str:
    return "" if value is None else f"{1000 * value:.1f}"
