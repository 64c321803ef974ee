"""How losses, uncertainties and errors went over a run, as tables in results/."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fhi_al.procedures.reading import read_rules
from fhi_al.procedures.threshold import Thresholds
from fhi_al.record.events import Advanced, Check, Labelled, Opened, Trained
from fhi_al.record.files import write_text
from fhi_al.record.journal import Record

_LOSSES = ("epoch", "loss", "valid_loss", "force_mae_eV_per_A", "energy_mae_eV_per_atom")
_UNCERTAINTIES = ("trajectory", "step", "uncertainty_eV_per_A", "threshold_eV_per_A", "T_K")
_CHECKS = ("trajectory", "step", "reason", "uncertainty_eV_per_A", "force_mae_eV_per_A")


def write_histories(folder: Path, records: Iterable[Record], *, analysis: bool) -> list[Path]:
    """Write the tables.

    Args:
        folder: results/.
        records: of the run's journal.
        analysis: whether to write the uncertainties and the errors of chosen structures too, not
            only the losses (the manual's key of this name).

    Returns:
        The files: `history_member<i>.csv`, and `uncertainties.csv` and `checks.csv`. A check is a
        structure that was chosen during molecular dynamics, sanity checks included, with the MAE
        of the forces that the committee had predicted for it.
    """
    losses: dict[int, list[Sequence[object]]] = {}
    uncertainties: list[Sequence[object]] = []
    chosen: dict[str, tuple[object, ...]] = {}
    checks: list[Sequence[object]] = []
    thresholds: Thresholds | None = None
    for record in records:
        event = record.event
        if isinstance(event, Opened):
            rules = read_rules(event.settings)
            if thresholds is None:
                thresholds = Thresholds(rules.threshold, rules.threshold_systems)
            thresholds.follow(rules.threshold, rules.threshold_systems)
        elif isinstance(event, Trained):
            for member, *row in event.history:
                losses.setdefault(member, []).append(row)
        elif isinstance(event, Advanced):
            assert thresholds is not None
            for check in event.checks:
                for trajectory, step, uncertainty, theta, temperature in looks(check, thresholds):
                    uncertainties.append(
                        (trajectory, step, uncertainty, "" if theta is None else theta, temperature)
                    )
            for c in event.candidates:
                chosen[c.key] = (c.trajectory, c.step, c.reason, c.uncertainty)
        elif isinstance(event, Labelled) and event.key in chosen:
            error = "" if event.force_error is None else event.force_error
            checks.append((*chosen.pop(event.key), error))
    files = [
        _table(folder / f"history_member{member}.csv", _LOSSES, rows)
        for member, rows in sorted(losses.items())
    ]
    if analysis:
        files.append(_table(folder / "uncertainties.csv", _UNCERTAINTIES, uncertainties))
        files.append(_table(folder / "checks.csv", _CHECKS, checks))
    return files


def looks(
    check: Check, thresholds: Thresholds
) -> Iterator[tuple[int, int, float, float | None, float]]:
    """What a check found of each walker.

    Args:
        check: of all moving walkers.
        thresholds: as the checks before have left them; takes the uncertainties in.

    Yields:
        Trajectory, MD step, uncertainty in eV/Å, the threshold that it was compared with (None
        during the warm-up), and temperature in K.
    """
    for trajectory, step, uncertainty, temperature in zip(
        check.trajectories, check.steps, check.uncertainties, check.temperatures, strict=True
    ):
        threshold = thresholds.of(trajectory).add(uncertainty)
        yield trajectory, step, uncertainty, threshold, temperature


def _table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path
