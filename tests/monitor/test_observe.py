"""What is told of a run, from journals made by hand and by simulated workers."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fhi_al.analysis.progress import Pace, Progress
from fhi_al.folder.lock import Holder
from fhi_al.monitor.drawing import draw, in_words, short_duration
from fhi_al.monitor.observe import observe
from fhi_al.monitor.snapshot import Snapshot
from fhi_al.monitor.status import to_json
from fhi_al.procedures.run import step, wanted
from fhi_al.record.events import (
    Advanced,
    Check,
    Closed,
    Event,
    Failed,
    Isolated,
    Labelled,
    LabelRejected,
    Opened,
    Sampled,
    Started,
    Trained,
)
from fhi_al.record.journal import Journal
from fhi_al.record.outcome import Place, Work, Worker
from fhi_al.run.controller import Controller
from fhi_al.workers.channels import InlineChannel
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules

ML = Place("a", (Worker("ML", 0),), "cuda:0", 1)
GROUP = [Place("b", (Worker("reference", 0),), "cpu", 1)] * 4
AT_WORK = Holder("a", 17, since=0.0, last_sign=0.0)

Timed = tuple[float, Event]


def opened(
    when: float = 2.0, *, goal: str = "run", startup_s: float = 1.0, **rules: object
) -> Timed:
    settings = simulated_rules(**rules).to_json()
    places = (ML, *GROUP)
    event = Opened("run", settings, "", "0", 3, ("H",), "a", when, startup_s, places)
    return when, event


def look(*timed: Timed, now: float | None = None, holder: Holder | None = AT_WORK) -> Snapshot:
    """The run after these events; at the last of them, unless told otherwise."""
    state, progress = None, Progress()
    for when, event in timed:
        state = step(state, event)
        progress.take(state, event, when)
    assert state is not None
    return observe(state, progress, timed[-1][0] if now is None else now, holder, "water")


def sampled(when: float, *keys: str) -> Timed:
    return when, Sampled("sample-0", None, keys, 1.0)


def labelled(when: float, key: str, began: float) -> Timed:
    work = (Work(Worker("reference", 0), began, when, when - began),)
    return when, Labelled(f"label-{key}", key, -1.0, when - began, work=work)


def started(when: float, effect: str, worker: Worker) -> Timed:
    return when, Started(effect, worker, "Train" if worker.role == "ML" else "Calculate")


# --- the condition -----------------------------------------------------------------------------

CONDITIONS: list[tuple[Sequence[Timed], bool, str, str]] = [
    ([opened()], True, "running", ""),
    ([opened()], False, "crashed", "without a word"),
    ([opened(), (3.0, Closed("SIGTERM", 3.0))], True, "stopping", "SIGTERM"),
    ([opened(), (3.0, Closed("SIGTERM", 3.0))], False, "stopped", "SIGTERM"),
    # What ended in time follows.
    ([opened(), (3.0, Closed("SIGTERM", 3.0)), sampled(4.0, "x")], False, "stopped", "SIGTERM"),
    (
        [opened(), (3.0, Failed("b", 2, "no such library", "trace"))],
        False,
        "failed",
        "rank 2 on b: no such library",
    ),
    # Another command has gone on after that.
    ([opened(), (3.0, Closed("SIGTERM", 3.0)), opened(9.0)], True, "running", ""),
]


@pytest.mark.parametrize(("timed", "held", "condition", "why"), CONDITIONS)
def test_how_the_last_command_is_or_ended(
    timed: Sequence[Timed], held: bool, condition: str, why: str
) -> None:
    snapshot = look(*timed, holder=AT_WORK if held else None)
    assert snapshot.condition == condition
    assert why in snapshot.why
    assert bool(why) == bool(snapshot.why)
    assert (snapshot.host, snapshot.pid) == (("a", 17) if held else (None, None))


def test_a_silent_process_is_told_of() -> None:
    for silent, told in ((100.0, False), (150.0, True)):
        snapshot = look(opened(), now=200.0, holder=replace(AT_WORK, last_sign=200.0 - silent))
        assert snapshot.silent_seconds == silent
        console = Console(file=io.StringIO(), width=100)
        with console.capture() as capture:
            console.print(draw(snapshot))
        assert ("no sign of life for 2 min 30 s" in capture.get()) is told


def test_a_command_that_has_not_opened_the_journal_yet_is_starting() -> None:
    end = (3.0, Closed("SIGTERM", 3.0))
    snapshot = look(opened(), end, now=10.0, holder=replace(AT_WORK, since=9.0))
    assert snapshot.condition == "starting"
    # The time between two commands is nobody's.
    assert snapshot.seconds == 1.0


def test_too_many_failures_are_a_failure() -> None:
    keys = [f"k{i}" for i in range(12)]
    rejections = [(5.0, LabelRejected(f"label-{key}", key, "no convergence", 1.0)) for key in keys]
    end = (6.0, Closed("12 of 12 reference calculations failed", 6.0))
    snapshot = look(
        opened(max_failed_fraction=0.5), sampled(3.0, *keys), *rejections, end, holder=None
    )
    assert snapshot.condition == "failed"
    assert "max_failed_fraction" in snapshot.why
    assert snapshot.n_rejected == snapshot.reference_calls == 12


# --- queue and roles ---------------------------------------------------------------------------


def test_the_label_queue_and_what_is_in_work() -> None:
    run = [
        opened(10.0, startup_s=0.0),
        sampled(10.0, "a", "b", "c", "d"),
        started(12.0, "label-a", Worker("reference", 0)),
        started(12.0, "label-b", Worker("reference", 0)),
        started(13.0, "train-0", Worker("ML", 0)),
    ]
    snapshot = look(*run, now=20.0)
    queue = snapshot.queue
    assert (queue.in_work, queue.handed_out, queue.wanted) == (1, 1, 2)
    assert {(w.kind, w.count, w.seconds) for w in snapshot.in_work} == {
        ("labels", 1, 8.0),
        ("training", 1, 7.0),
    }
    # The second one began when the first was done.
    snapshot = look(*run, labelled(16.0, "a", 12.0), now=20.0)
    assert snapshot.queue.in_work == 1
    assert ("labels", 1, 4.0) in {(w.kind, w.count, w.seconds) for w in snapshot.in_work}
    # Nothing is in work in a run that has ended, and what was cut off is wanted again.
    snapshot = look(*run, (16.0, Closed("SIGTERM", 16.0)), now=99.0, holder=None)
    assert snapshot.in_work == ()
    queue = snapshot.queue
    assert (queue.in_work, queue.handed_out, queue.wanted) == (0, 0, 4)


def test_a_calculation_in_work_keeps_its_ranks_busy() -> None:
    run = [
        opened(10.0, startup_s=0.0),
        sampled(10.0, "a", "b"),
        started(12.0, "label-a", Worker("reference", 0)),
        labelled(16.0, "a", 12.0),
        started(16.0, "label-b", Worker("reference", 0)),
    ]
    roles = {use.role: use for use in look(*run, now=30.0).roles}
    assert roles["reference"].ranks == 4
    assert roles["reference"].busy == pytest.approx(18 / 20)
    assert roles["ML"].busy == 0
    # After the command, only what has ended counts, up to its last record.
    roles = {use.role: use for use in look(*run, now=30.0, holder=None).roles}
    assert roles["reference"].busy == pytest.approx(4 / 6)
    # Over two commands, the break between them left out.
    second = [opened(100.0, startup_s=0.0), started(101.0, "label-b", Worker("reference", 0))]
    roles = {use.role: use for use in look(*run, *second, now=104.0).roles}
    assert roles["reference"].busy == pytest.approx((4 + 3) / (6 + 4))
    assert roles["reference"].kinds == {"labels": pytest.approx(0.7)}


# --- time left ---------------------------------------------------------------------------------


def test_a_pace_needs_some_changes_and_forgets_old_ones() -> None:
    pace = Pace()
    for number in range(5):
        pace.note(10.0 * number, number)
        pace.note(10.0 * number + 1, number)
    assert pace.per_second(50.0) is None
    pace.note(50.0, 5)
    assert pace.per_second(50.0) == pytest.approx(0.1)
    # Without news it becomes slower.
    assert pace.per_second(100.0) == pytest.approx(0.05)
    for number in range(1000):
        pace.note(50.0 + number, 6 + number)
    assert pace.per_second(1049.0) == pytest.approx(1.0)


def test_time_left_in_a_convergence(tmp_path: Path) -> None:
    """By the duration of its epochs, less what has passed since the last ones."""
    timed = simulated_run(tmp_path)
    first = next(
        index
        for index, (_, event) in enumerate(timed)
        if isinstance(event, Trained) and look(*timed[:index]).stage == "convergence"
    )
    when, event = timed[first]
    assert isinstance(event, Trained)
    run = [*timed[:first], (when, replace(event, seconds=3.0 * event.epochs))]
    snapshot = look(*run, now=when + 6.0)
    (limit,) = snapshot.limits
    assert (limit.what, limit.limit) == ("epochs", 50)
    assert limit.number == event.epochs
    assert snapshot.seconds_left == pytest.approx(3.0 * (50 - event.epochs) - 6.0)
    assert "at most" in in_words(snapshot)
    assert "(epochs, 20 a min)" in in_words(snapshot)


# --- a whole run -------------------------------------------------------------------------------


def simulated_run(tmp_path: Path, **rules: object) -> list[Timed]:
    """All events of a run, one a second."""
    rules_ = simulated_rules(**rules)
    when, event = opened(1.0, **rules)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(event)
    worker = SimulatedWorker(rules_)
    channels = [
        InlineChannel(Worker("reference", 0), worker),
        InlineChannel(Worker("ML", 0), worker),
    ]
    Controller(step(None, event), journal, channels).run()
    events = Journal(journal.path)
    return [(when + index, event) for index, event in enumerate(events)]


def test_a_run_from_its_first_event_to_its_last(tmp_path: Path) -> None:
    timed = simulated_run(tmp_path, auto_atomic_energies=True, audit_every=100)
    state, progress = None, Progress()
    snapshots = []
    for when, event in timed:
        state = step(state, event)
        progress.take(state, event, when)
        snapshots.append(observe(state, progress, when, AT_WORK, "water"))
        assert in_words(snapshots[-1])
        json.loads(to_json(snapshots[-1]))
    stages = list(dict.fromkeys(snapshot.stage for snapshot in snapshots))
    assert stages == [
        "atomic_energies",
        "initial_dataset",
        "active_learning",
        "convergence",
        "done",
    ]
    for snapshot, (when, _) in zip(snapshots, timed, strict=True):
        assert snapshot.seconds == when - timed[0][0]
        assert snapshot.accuracy.target == (0.1 if snapshot.stage in stages[1:2] else 0.01)
    last = snapshots[-1]
    assert last.condition == "finished"
    assert last.seconds_left is None
    assert {one.state for one in last.trajectories} == {"finished"}
    labels = [event for _, event in timed if isinstance(event, Labelled)]
    assert last.reference_calls == len(labels)
    assert last.train_size + last.n_valid + last.n_audit <= len(labels)
    learning = [snapshot for snapshot in snapshots if snapshot.stage == "active_learning"]
    assert any(snapshot.seconds_left for snapshot in learning)
    assert any(one.state != "running" for snapshot in learning for one in snapshot.trajectories)
    # What was last measured is what the journal says.
    checks = [check for _, event in timed if isinstance(event, Advanced) for check in event.checks]
    newest: dict[int, float] = {}
    for check in checks:
        newest.update(zip(check.trajectories, check.uncertainties, strict=True))
    assert {one.number: one.uncertainty for one in last.trajectories} == newest


def test_a_threshold_in_its_warm_up_and_after(tmp_path: Path) -> None:
    snapshots = []
    state, progress = None, Progress()
    for when, event in simulated_run(tmp_path, uncertainty_warmup=16):
        state = step(state, event)
        progress.take(state, event, when)
        snapshots += observe(state, progress, when, AT_WORK).thresholds
    for threshold in snapshots:
        assert (threshold.value is None) == (threshold.n_estimates < 16)
    assert snapshots[0].value is None
    assert snapshots[-1].value is not None


def test_isolated_atoms_are_counted() -> None:
    atoms = Isolated("isolate", (("H", 1, "h"), ("O", 2, "o"), ("O", 0, "p")))
    run = [opened(auto_atomic_energies=True), (3.0, atoms), labelled(4.0, "h", 3.5)]
    (limit,) = look(*run).limits
    assert (limit.what, limit.number, limit.limit) == ("isolated atoms", 1, 3)


def test_json_knows_no_infinity() -> None:
    run = simulated_learning()
    check = Check((0,), (10,), (math.inf,), (math.nan,))
    advanced = Advanced("advance-0", "w", (0,), (10,), (check,), (), 1.0, "eager")
    snapshot = look(*run, (99.0, advanced))
    data = json.loads(to_json(snapshot), parse_constant=pytest.fail)
    assert data["trajectories"][0]["uncertainty"] is None
    assert data["trajectories"][0]["temperature_K"] is None
    assert data["trajectories"][0]["step"] == 10


def simulated_learning() -> list[Timed]:
    """Events up to the beginning of active learning."""
    timed: list[Timed] = [opened(n_samples=2, max_initial_epochs=4, initial_target=1e-9)]
    worker = SimulatedWorker(simulated_rules(n_samples=2))
    state = step(None, timed[0][1])
    while "active_learning" not in state.stages:
        event = worker.answer(wanted(state)[0])
        timed.append((timed[-1][0] + 1, event))
        state = step(state, event)
    return timed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (61, "1 min 1 s"), (7384, "2 h 3 min"), (200000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text
