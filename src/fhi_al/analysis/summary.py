"""What a run has cost and what it gives: printed at its end, kept in results/."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fhi_al.analysis.accounting import RoleUse, account, shares
from fhi_al.analysis.progress import Progress, StageCost
from fhi_al.procedures.pipelines import words_of
from fhi_al.procedures.run import delivered_members, step
from fhi_al.procedures.state import DONE, State
from fhi_al.record.events import Errors, Labelled
from fhi_al.record.files import write_text
from fhi_al.record.journal import Record


@dataclass
class Summary:
    """A run in numbers.

    Attributes:
        costs: stage by stage.
        train_size: structures in the largest training set of a member.
        n_labels: labels in all datasets.
        n_valid: of them, for validation.
        n_audit: of them, sanity checks.
        n_rejected: structures without a usable label.
        in_loss: of the structures that the delivered members were trained on, the fewest with
            energy, forces and stress in the loss.
        errors: of the delivered members and of the committee.
        peak_memory_mb: of each rank of the command that ended the run.
        files: that the last stage wrote for the user.
        roles: how the ranks spent their time.
        labels: formula -> labels of such structures, isolated atoms left out.
    """

    costs: list[StageCost]
    n_labels: int
    train_size: int
    n_valid: int
    n_audit: int
    n_rejected: int
    errors: tuple[Errors, ...]
    peak_memory_mb: tuple[float, ...]
    files: tuple[str, ...]
    roles: list[RoleUse]
    in_loss: tuple[int, int, int] = (0, 0, 0)
    labels: dict[str, int] = field(default_factory=dict)


def summarise(records: Sequence[Record], peak_memory_mb: Iterable[float]) -> Summary:
    """Add up a journal.

    Args:
        records: of a journal with at least one command.
        peak_memory_mb: of each rank, which the journal doesn't know.
    """
    state: State | None = None
    progress = Progress()
    labels: Counter[str] = Counter()
    for record in records:
        event = record.event
        state = step(state, event)
        if isinstance(event, Labelled) and event.formula and event.key not in state.books.apart:
            labels[event.formula] += 1
        progress.take(state, event, record.time)
    assert state is not None
    return Summary(
        costs=[cost for stage, cost in progress.costs.items() if stage != DONE],
        n_labels=len(state.books.entries),
        train_size=state.books.train_size,
        n_valid=state.books.n_valid,
        n_audit=sum(entry.split == "audit" for entry in state.books.entries),
        n_rejected=state.books.n_rejected,
        errors=state.books.errors,
        peak_memory_mb=tuple(peak_memory_mb),
        files=tuple(state.books.exported.values())[-1] if state.books.exported else (),
        roles=account(records),
        in_loss=_in_loss(state),
        labels=dict(labels),
    )


def _in_loss(state: State) -> tuple[int, int, int]:
    members = [
        state.books.members[index] for index in delivered_members(state) if state.books.members
    ]
    if not members:
        return 0, 0, 0
    return (
        min(member.n_energies for member in members),
        min(member.n_forces for member in members),
        min(member.n_stresses for member in members),
    )


def save_summary(summary: Summary, folder: Path) -> None:
    """Write summary.json and summary.txt."""
    write_text(folder / "summary.json", json.dumps(asdict(summary), indent=2) + "\n")
    tables = io.StringIO()
    print_summary(summary, Console(file=tables, width=100))
    write_text(folder / "summary.txt", tables.getvalue())


def print_summary(summary: Summary, console: Console) -> None:
    """Show the summary as tables."""
    table = Table(title="What it took")
    table.add_column("stage")
    for name in ("wall time / s", "reference calls", "reference time / s"):
        table.add_column(name, justify="right")
    for cost in summary.costs:
        table.add_row(
            words_of(cost.stage),
            f"{cost.wall_seconds:.1f}",
            str(cost.reference_calls),
            f"{cost.reference_seconds:.1f}",
        )
    table.add_section()
    table.add_row(
        "in all",
        f"{sum(cost.wall_seconds for cost in summary.costs):.1f}",
        str(sum(cost.reference_calls for cost in summary.costs)),
        f"{sum(cost.reference_seconds for cost in summary.costs):.1f}",
    )
    console.print(table)
    console.print(
        f"{summary.n_labels} labels: {summary.n_labels - summary.n_valid - summary.n_audit} for "
        f"training (at most {summary.train_size} a member before convergence), "
        f"{summary.n_valid} for validation, {summary.n_audit} sanity checks; "
        f"{summary.n_rejected} structures rejected"
        + (" (see rejected.xyz beside the datasets)" if summary.n_rejected else "")
    )
    if len(summary.labels) > 1:
        counts = ", ".join(f"{formula}: {count}" for formula, count in summary.labels.items())
        console.print(f"structures computed: {counts}")
    if any(summary.in_loss):
        energies, forces, stresses = summary.in_loss
        console.print(
            f"in the loss of the last training: {energies} structures with energy, {forces} with "
            f"forces, {stresses} with stress"
        )
    _print_roles(summary.roles, console)
    if summary.peak_memory_mb:
        peaks = ", ".join(f"{peak:.0f}" for peak in summary.peak_memory_mb)
        console.print(f"peak memory by rank: {peaks} MB")
    if not summary.errors:
        return
    table = Table(title="Errors: forces (F) in meV/Å, energies (E) in meV/atom")
    table.add_column("model")
    table.add_column("data")
    for name in ("n", "F MAE", "F RMSE", "E MAE", "E RMSE"):
        table.add_column(name, justify="right")
    for errors in summary.errors:
        table.add_row(
            f"{errors.who}, {errors.system}" if errors.system else errors.who,
            errors.data,
            str(errors.n_structures),
            f"{1000 * errors.force_mae:.1f}",
            f"{1000 * errors.force_rmse:.1f}",
            f"{1000 * errors.energy_mae:.2f}",
            f"{1000 * errors.energy_rmse:.2f}",
        )
    console.print(table)
    models = [file for file in summary.files if file.endswith(".model")]
    if models:
        console.print("Models to use:", *models, sep="\n  ", soft_wrap=True)


def _print_roles(roles: Sequence[RoleUse], console: Console) -> None:
    if not roles:
        return
    table = Table(title="How the ranks spent their time")
    table.add_column("role")
    table.add_column("busy", justify="right")
    table.add_column("with")
    table.add_column("waiting", justify="right")
    table.add_column("for")
    for use in roles:
        total = use.rank_seconds
        busy = 100 * sum(use.busy.values()) / total if total else 0.0
        table.add_row(
            use.role,
            f"{busy:.0f}%",
            shares(use.busy, total),
            f"{100 - busy:.0f}%",
            shares(use.waiting, total),
        )
    console.print(table)
