"""Who did what when, drawn."""

from __future__ import annotations

from fhi_al.procedures.run import step
from fhi_al.record.events import Opened
from fhi_al.record.journal import Record
from fhi_al.record.kinds import KINDS
from fhi_al.record.outcome import Place, Work, Worker
from fhi_al.report.charts import Chart, Spans
from fhi_al.report.story import Story
from fhi_al.report.timeline import timeline
from fhi_al.workers.simulated import simulated_rules

GROUP = Worker("reference", 10)
PLACES = (
    Place("a", (GROUP,), "cpu", 1),
    Place("a", (GROUP,), "cpu", 1),
    Place("a", (Worker("reference", 2),), "cpu", 1),
    Place("a", (Worker("ML", 1),), "cpu", 1),
    Place("a", (Worker("ML", 0),), "cpu", 1),
    Place("a", (), "", 1),
)


def drawn() -> Chart:
    """Each outcome of each kind of effect once, 10 s each."""
    rules = simulated_rules().to_json()
    opened = Opened("run", rules, "", "0", 3, ("H",), "a", 5.0, 5.0, PLACES)
    records = [Record(0, 5.0, opened)]
    for kind in KINDS.values():
        for outcome in kind.outcomes:
            event = object.__new__(outcome)
            began = 10.0 * len(records)
            work = (
                Work(Worker(kind.role, 0 if kind.role == "ML" else 10), began, began + 10, 5.0),
            )
            object.__setattr__(event, "work", work)
            records.append(Record(len(records), began + 10, event))  # type: ignore[arg-type]
    chart = timeline(Story(records, opened, opened, step(None, opened)))
    assert chart is not None
    return chart


def test_work_of_each_kind_is_shown() -> None:
    shown = [series for series in drawn().panels[0].series if isinstance(series, Spans)]
    lengths = {series.name: sum(series.lengths) for series in shown}
    # All workers wait for the start; the worker's name for its work is in the legend.
    assert lengths.pop("start-up") == 5 * len(set(PLACES) - {PLACES[-1]})
    assert sum(lengths.values()) == 10 * sum(len(kind.outcomes) for kind in KINDS.values())
    legend = ", ".join(lengths)
    for word in ("labels", "molecular dynamics", "training", "sampling", "evaluation, export"):
        assert word in legend
    assert len({series.color for series in shown}) == len(shown)


def test_rows_are_workers_the_ml_ranks_first_and_the_groups_by_number() -> None:
    rows = drawn().panels[0].rows
    assert rows == ("ML 0", "ML 1", "reference 2", "reference 10 (2 ranks)")
