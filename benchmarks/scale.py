"""The controller alone: 1,000 trajectories, 256 reference groups, 100,000 labels, no real work.

Usage: python benchmarks/scale.py [--labels N]

The workers are simulated in this process: a label takes 0.4 s that nobody spends. What is
measured is the program's own part: journal (on the disk of the working folder), state machines,
hand-out of effects. What the disk takes for each fsync is said beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from fhi_al.procedures.run import step
from fhi_al.record.effects import Effect
from fhi_al.record.events import Event, Opened
from fhi_al.record.journal import Journal
from fhi_al.record.outcome import Outcome, Work, Worker, clock
from fhi_al.run.controller import Controller
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules

TRAJECTORIES = 1000
GROUPS = 256
LABEL_S = 0.4


class SimulatedGroup:
    """A worker that answers after a while, and notes how long it was left without a new effect."""

    busy_here = False

    def __init__(self, worker: Worker, simulated: SimulatedWorker, seconds: float) -> None:
        self.worker = worker
        self._simulated = simulated
        self._seconds = seconds
        self._random = random.Random(str(worker))
        self._work: list[tuple[float, Effect]] = []
        self._answered: float | None = None
        self.latencies: list[float] = []

    @property
    def free_slots(self) -> int:
        return 2 - len(self._work) if self.worker.role == "reference" else int(not self._work)

    @property
    def idle(self) -> bool:
        return not self._work

    def submit(self, effect: Effect) -> None:
        now = time.perf_counter()
        if self._answered is not None:
            self.latencies.append(now - self._answered)
            self._answered = None
        begin = max(now, self._work[-1][0]) if self._work else now
        self._work.append((begin + self._seconds * self._random.uniform(0.5, 1.5), effect))

    def poll(self) -> list[Event]:
        # Asked again without a new effect: there was none to be had, which is no latency.
        self._answered = None
        now = time.perf_counter()
        if not self._work or self._work[0][0] > now:
            return []
        self._answered = now
        event = self._simulated.answer(self._work.pop(0)[1])
        assert isinstance(event, Outcome)
        ended = round(clock(), 4)
        work = Work(self.worker, round(ended - self._seconds, 4), ended, self._seconds)
        return [dataclasses.replace(event, work=(work,))]

    def hurry(self) -> None:
        pass

    def close(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=100_000)
    arguments = parser.parse_args()
    rules = simulated_rules(
        num_trajectories=TRAJECTORIES,
        max_set_size=int(0.8 * arguments.labels),
        valid_ratio=0.2,
        max_MD_steps=10**9,
        desired_acc=1e-12,
        max_epochs_worker=2,
        converge_al=False,
        uncertainty_window=400,
        n_samples=50,
    )
    worker = SimulatedWorker(rules)
    groups = [SimulatedGroup(Worker("reference", g), worker, LABEL_S) for g in range(GROUPS)]
    ml = SimulatedGroup(Worker("ML", 0), worker, 0.005)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        journal = Journal(Path(folder) / "journal.jsonl")
        opened = Opened("run", rules.to_json(), "", "0", 3, ("H",), "host", time.time())
        journal.append(opened)
        marks: list[tuple[int, float]] = []

        def mark(state: object, event: Event) -> None:
            marks.append((0, time.perf_counter()))

        syncs: list[float] = []
        fsync = os.fsync

        def timed_fsync(file: int) -> None:
            began = time.perf_counter()
            fsync(file)
            syncs.append(1000 * (time.perf_counter() - began))

        os.fsync = timed_fsync
        controller = Controller(step(None, opened), journal, [*groups, ml], [mark])
        start = time.perf_counter()
        busy = time.process_time()
        controller.run()
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        os.fsync = fsync
        size = (Path(folder) / "journal.jsonl").stat().st_size
    latencies = 1000 * np.concatenate([group.latencies for group in groups])
    n_events = len(marks)
    tenth = n_events // 10
    first = marks[tenth][1] - marks[0][1]
    last = marks[-1][1] - marks[-tenth][1]
    print(f"{len(controller.state.books.entries)} labels, {n_events} events in {seconds:.0f} s")
    print(f"decisions a second: {n_events / seconds:.0f}; processor time: {busy:.0f} s")
    print(
        "from a worker's answer to its next effect: "
        f"median {np.median(latencies):.2f} ms, p99 {np.percentile(latencies, 99):.2f} ms "
        "(target: p99 below 10 ms)"
    )
    print(
        f"of that, one fsync of this disk: median {np.median(syncs):.2f} ms, "
        f"p99 {np.percentile(syncs, 99):.2f} ms, longest {max(syncs):.0f} ms; "
        f"{sum(s > 10 for s in syncs)} of {len(syncs)} took more than 10 ms, together "
        f"{sum(s for s in syncs if s > 10) / 1000:.1f} s"
    )
    print(f"the last tenth of the events took {last / first:.2f} times as long as the first")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"peak memory {peak:.0f} MB (target: below 1000 MB); journal {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
