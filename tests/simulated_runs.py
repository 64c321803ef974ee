"""Runs of simulated workers, one thing at a time, and the lists of stop criteria."""

from __future__ import annotations

from collections.abc import Iterator

from fhi_al.procedures.run import finished, step, wanted
from fhi_al.procedures.state import State
from fhi_al.procedures.stop import CONVERGE_STOP_CRITERIA, INITIAL_STOP_CRITERIA, STOP_CRITERIA
from fhi_al.record.events import Event, Opened, Started
from fhi_al.record.outcome import Worker
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules

STOPS = {
    "initial_stop_when": INITIAL_STOP_CRITERIA,
    "stop_when": STOP_CRITERIA,
    "converge_stop_when": CONVERGE_STOP_CRITERIA,
}
"""Settings -> the criteria that they choose from."""


def simulate(opened: Opened) -> Iterator[tuple[State, Event]]:
    """A run that does one thing at a time; the state after each event."""
    state = step(None, opened)
    yield state, opened
    worker = SimulatedWorker(state.rules)
    for _ in range(20_000):
        if finished(state):
            return
        assert not state.books.failure, state.books.failure
        effect = wanted(state)[0]
        started = Started(effect.id, Worker("ML", 0), type(effect).__name__)
        for event in (started, worker.answer(effect)):
            state = step(state, event)
            yield state, event
    raise AssertionError("the run does not end")


def opened_with(inputs: dict[str, object] | None = None, **changes: object) -> Opened:
    rules = simulated_rules(asynchronous=False, converge_initial=True, **changes).to_json()
    return Opened("run", rules, "digest", "0", 3, ("H", "O"), "host", 0.0, inputs=inputs or {})
