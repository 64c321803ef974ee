"""What a worker's time is counted as."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fhi_al.handlers.worker import Slices
from fhi_al.mpi.messages import Patience
from fhi_al.record.effects import Calculate, Effect
from fhi_al.record.events import Event, Failed, Labelled
from fhi_al.record.outcome import Work, Worker, clock
from fhi_al.workers.channels import InlineChannel

LABEL = Calculate("label-a", "a", "initial")


class Sleeper:
    """Works for 20 ms, waits for another rank for 20 ms, works for 20 ms."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self.given_up = False

    def run(self, effect: Effect) -> Slices:
        try:
            time.sleep(0.02)
            yield
            patience = Patience()
            deadline = time.monotonic() + 0.02
            while time.monotonic() < deadline:
                patience.wait()
            yield
            time.sleep(0.02)
            return self.event
        except GeneratorExit:
            self.given_up = True
            raise

    def close(self) -> None: ...


def poll(channel: InlineChannel, pause: float = 0.0) -> Iterator[Event]:
    while channel.busy_here:
        yield from channel.poll()
        time.sleep(pause)


def test_waiting_and_the_time_between_slices_are_no_work() -> None:
    other = Work(Worker("ML", 1), 1.0, 2.0, 1.0)
    channel = InlineChannel(
        Worker("reference", 1), Sleeper(Labelled("label-a", "a", -1.0, 1.0, work=(other,)))
    )
    before = clock()
    channel.submit(LABEL)
    (event,) = poll(channel, pause=0.05)
    assert isinstance(event, Labelled)
    own, second = event.work
    assert second == other
    assert own.worker == Worker("reference", 1)
    assert before <= own.began + 1e-4 < own.ended <= clock() + 1e-4
    assert own.ended - own.began > 0.16
    # A loaded machine sleeps longer than asked for, but then the whole takes longer as well.
    assert 0.04 <= own.busy < own.ended - own.began - 0.1


def test_only_outcomes_tell_of_work() -> None:
    failed = Failed("host", 1, "Boom", "trace")
    channel = InlineChannel(Worker("reference", 0), Sleeper(failed))
    channel.submit(LABEL)
    assert list(poll(channel)) == [failed]


def test_work_that_is_given_up_is_told_so() -> None:
    sleeper = Sleeper(Labelled("label-a", "a", -1.0, 1.0))
    channel = InlineChannel(Worker("reference", 0), sleeper)
    channel.submit(LABEL)
    channel.poll()
    channel.close()
    assert sleeper.given_up


def test_the_clock_agrees_with_the_system() -> None:
    assert clock() == pytest.approx(time.time(), abs=1.0)
