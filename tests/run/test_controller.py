"""The loop: journal before belief, one effect once, no deadlock."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from fhi_al.errors import EngineError, FhiAlError, StorageError
from fhi_al.handlers.worker import Slices
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.run import finished, fold, step
from fhi_al.record.effects import Effect
from fhi_al.record.events import (
    Advanced,
    Closed,
    Event,
    Failed,
    Opened,
    Started,
)
from fhi_al.record.journal import Journal
from fhi_al.record.outcome import Worker
from fhi_al.run.controller import Controller, WorkerError
from fhi_al.workers.channels import InlineChannel
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules


def start(path: Path, rules: Rules, **worker: float) -> tuple[Controller, SimulatedWorker]:
    journal = Journal(path)
    opened = Opened("run", rules.to_json(), "digest", "0", 3, ("H",), "host", 0.0)
    state = step(fold(journal), opened)
    journal.append(opened)
    simulated = SimulatedWorker(rules, **worker)  # type: ignore[arg-type]
    channels = [
        InlineChannel(Worker("reference", 0), simulated),
        InlineChannel(Worker("reference", 1), simulated),
        InlineChannel(Worker("ML", 0), simulated),
    ]
    return Controller(state, journal, channels), simulated


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_run_reaches_its_goal_and_the_journal_tells_it(
    tmp_path: Path, asynchronous: bool
) -> None:
    controller, simulated = start(
        tmp_path / "journal.jsonl", simulated_rules(asynchronous=asynchronous)
    )
    controller.run()
    assert finished(controller.state)
    events = list(Journal(tmp_path / "journal.jsonl"))
    assert fold(events) == controller.state
    assert events[-1] == Closed("finished", events[-1].time)  # type: ignore[union-attr]
    assert (
        len(simulated.labelled)
        == len(set(simulated.labelled))
        == len(controller.state.books.entries)
    )


def test_sequential_runs_have_one_effect_in_work(tmp_path: Path) -> None:
    controller, _ = start(tmp_path / "journal.jsonl", simulated_rules(asynchronous=False))
    controller.run()
    flying = 0
    for event in Journal(tmp_path / "journal.jsonl"):
        if isinstance(event, Started):
            flying += 1
        elif hasattr(event, "effect"):
            flying -= 1
        assert flying <= 1


def test_listeners_hear_of_each_event_after_the_state(tmp_path: Path) -> None:
    controller, _ = start(tmp_path / "journal.jsonl", simulated_rules())
    heard: list[Event] = []

    def listen(state: object, event: Event) -> None:
        if isinstance(event, Advanced):
            assert controller.state.stages.get("active_learning")
            assert controller.state.stages.get("active_learning").file == event.walkers
        heard.append(event)

    controller.listeners = [listen]
    controller.run()
    assert heard == list(Journal(tmp_path / "journal.jsonl"))[1:]


def test_a_hopeless_run_closes_its_journal_and_says_why(tmp_path: Path) -> None:
    controller, _ = start(
        tmp_path / "journal.jsonl", simulated_rules(max_failed_fraction=0.5), rejects=1.0
    )
    with pytest.raises(FhiAlError, match="max_failed_fraction"):
        controller.run()
    assert isinstance(list(Journal(tmp_path / "journal.jsonl"))[-1], Closed)


class Breaking:
    """A worker that dies on its third effect."""

    def __init__(self, worker: SimulatedWorker) -> None:
        self.worker = worker
        self.count = 0

    def run(self, effect: Effect) -> Slices:
        self.count += 1
        if self.count < 3:
            return (yield from self.worker.run(effect))
        yield
        return Failed("host", 1, "Boom", "trace")

    def close(self) -> None: ...


def test_a_broken_rank_ends_the_loop_and_the_journal_knows(tmp_path: Path) -> None:
    rules = simulated_rules()
    controller, simulated = start(tmp_path / "journal.jsonl", rules)
    controller.channels = [
        InlineChannel(Worker("reference", 0), Breaking(simulated)),
        InlineChannel(Worker("ML", 0), simulated),
    ]
    with pytest.raises(WorkerError, match="Boom"):
        controller.run()
    assert isinstance(list(Journal(tmp_path / "journal.jsonl"))[-1], Failed)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EngineError("no such library"), "no such library"),
        (StorageError("the disk is full"), "the disk is full"),
        (ZeroDivisionError("a mistake"), "ZeroDivisionError: a mistake"),
    ],
)
def test_the_journal_says_why_the_loop_itself_ended(
    tmp_path: Path, error: Exception, told: str
) -> None:
    controller, _ = start(tmp_path / "journal.jsonl", simulated_rules())

    def fail(state: object, event: Event) -> None:
        if isinstance(event, Advanced):
            raise error

    controller.listeners = [fail]
    with pytest.raises(type(error)):
        controller.run()
    last = list(Journal(tmp_path / "journal.jsonl"))[-1]
    assert isinstance(last, Failed)
    assert (last.rank, last.error) == (0, told)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_the_loop_looks_around_between_two_pieces_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    """A piece is a slice of each effect that is in work here; one of them where there is one."""
    rules = simulated_rules(asynchronous=asynchronous)
    plain, simulated = start(tmp_path / "journal.jsonl", rules)
    pieces = [0]

    def work(effect: Effect) -> Slices:
        for _ in range(3):
            pieces[-1] += 1
            yield
        pieces[-1] += 1
        return simulated.answer(effect)

    monkeypatch.setattr(simulated, "run", work)
    Controller(plain.state, plain.journal, plain.channels, look=lambda: pieces.append(0)).run()
    begun = sum(isinstance(event, Started) for event in Journal(tmp_path / "journal.jsonl"))
    assert begun >= len(simulated.labelled) > 0
    assert sum(pieces) == 4 * begun
    assert max(pieces) == (len(plain.channels) if asynchronous else 1)


def test_work_in_flight_is_done_again_after_a_restart(tmp_path: Path) -> None:
    """Stop at any event: the same command goes on and ends as if nothing had happened."""
    path = tmp_path / "journal.jsonl"
    rules = simulated_rules(asynchronous=False)
    controller, _ = start(path, rules)
    controller.run()
    whole = path.read_bytes().splitlines(keepends=True)
    entries = controller.state.books.entries[:6]
    for size in range(1, 30):
        path.write_bytes(b"".join(whole[:size]))
        controller, simulated = start(path, rules)
        before = sum(controller.state.books.outcomes.values())
        controller.run()
        assert finished(controller.state)
        assert controller.state.books.entries[:6] == entries
        assert before + len(simulated.labelled) == sum(controller.state.books.outcomes.values())


def test_labels_go_to_reference_channels_only(tmp_path: Path) -> None:
    controller, _ = start(tmp_path / "journal.jsonl", simulated_rules())
    controller.run()
    for event in Journal(tmp_path / "journal.jsonl"):
        if isinstance(event, Started):
            assert event.kind in (kind.__name__ for kind in typing.get_args(Effect))
            assert (event.worker.role == "reference") == (event.kind == "Calculate")
            assert event.effect.startswith("label-") == (event.kind == "Calculate")
