"""Kills the real program at random instants until it is done, and counts from the outside."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cli_runs import Running, journal, label_files, labelled
from fault_runs import calls, n_records

from fhi_al.record.events import LabelRejected

STARTING_S = 4.0
"""About the time from the command to its first event."""


@dataclass
class Totals:
    """What happened, over all runs.

    Attributes:
        kills: by their kind.
        runs: that were brought to their end.
        labels: recorded.
        rejected: calculations without a result, which are an outcome as well.
        calls: of the reference, by its own log.
        in_work: calls whose outcome was not recorded when they, or their job, were killed.
        lost: label files that were there once, and later were not.
    """

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    labels: int = 0
    rejected: int = 0
    calls: int = 0
    in_work: int = 0
    lost: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.kills.items()))
        return (
            f"{self.runs} runs, {self.kills.total()} kills ({kinds}), {self.labels} labels, "
            f"{self.rejected} rejected, {self.calls} calls of the reference, {self.in_work} of "
            f"them in work at a kill, {self.lost} lost labels"
        )


class Killer:
    """Runs the command again and again, and kills it, until it gets to its end.

    Args:
        start: starts a command, with the arguments of `Running`.
        seed: of all instants.
        ranks: of the job, or None for a process alone.
        command: to be run.
    """

    def __init__(
        self,
        start: Callable[..., Running],
        seed: int,
        ranks: int | None,
        command: str = "FHI_AL",
    ) -> None:
        self._start, self._ranks, self._command = start, ranks, command
        self._random = random.Random(seed)
        self.totals = Totals()

    def finish(self, folder: Path, most: int) -> None:
        """Bring a run to its end with at most so many kills, and check what it leaves."""
        seen: set[str] = set()
        in_work = 0
        for _ in range(most):
            running = self._start(self._command, folder, self._ranks)
            if not self._wait(running, folder):
                break
            self._kill(running)
            if self._random.random() < 0.3:
                self._tear(folder)
            files = {path.stem for path in label_files(folder)}
            assert seen <= files
            seen = files
            # All calls but those with an outcome have been cut off: by this kill at most one.
            before, in_work = in_work, calls(folder).total() - len(files) - rejections(folder)
            assert before <= in_work <= before + 1
        done = self._start(self._command, folder, self._ranks).wait(300)
        assert done.code == 0, done.text
        self._check(folder, seen, in_work)

    def _wait(self, running: Running, folder: Path) -> bool:
        """Until the instant of the kill; False if the run ends before."""
        if self._random.random() < 0.15:
            end = time.monotonic() + STARTING_S * self._random.random()
            while running.alive() and time.monotonic() < end:
                time.sleep(0.001)
        else:
            target = n_records(folder) + self._random.randint(1, 12)
            while running.alive() and n_records(folder) < target:
                time.sleep(0.005)
            time.sleep(0.03 * self._random.random() ** 2)
        return running.alive()

    def _kill(self, running: Running) -> None:
        kind = "whole job"
        if self._ranks is not None:
            kind = self._random.choice(["whole job", "one rank", "mpirun", "SIGTERM to mpirun"])
        ranks = running.pids()
        if kind == "one rank" and ranks:
            os.kill(self._random.choice(ranks), signal.SIGKILL)
            running.wait(60)
        elif kind == "mpirun":
            running.kill_launcher()
        elif kind == "SIGTERM to mpirun":
            running.send(signal.SIGTERM, None)
            running.wait(60)
        else:
            running.kill()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in ranks):
            assert time.monotonic() < deadline, "a rank outlives its job"
            time.sleep(0.01)
        self.totals.kills[kind] += 1

    def _tear(self, folder: Path) -> None:
        """As if the kill had hit the writing of the next record."""
        path = folder / "restart" / "journal.jsonl"
        if not path.exists() or not n_records(folder):
            return
        contents = path.read_bytes()
        contents = contents[: contents.rindex(b"\n") + 1]
        number, rest = contents.splitlines()[-1].split(b" ", 1)
        record = b"%d %s" % (int(number) + 1, rest)
        path.write_bytes(contents + record[: self._random.randrange(len(record))])

    def _check(self, folder: Path, seen: set[str], in_work: int) -> None:
        """Compare the engine's own log of its calls with what the journal has."""
        keys = labelled(folder)
        files = {path.stem for path in label_files(folder)}
        assert len(set(keys)) == len(keys)
        assert files == set(keys)
        totals = self.totals
        totals.runs += 1
        totals.labels += len(keys)
        totals.rejected += rejections(folder)
        totals.calls += calls(folder).total()
        totals.in_work += in_work
        totals.lost += len(seen - files)
        assert totals.lost == 0
        assert totals.calls == totals.labels + totals.rejected + totals.in_work, str(totals)


def rejections(folder: Path) -> int:
    """Calculations without a usable result."""
    return sum(isinstance(event, LabelRejected) for event in journal(folder))


def kill_runs(
    start: Callable[..., Running],
    seed: int,
    ranks: int | None,
    kills: int,
    make: Callable[[int], Path],
    check: Callable[[Path], None],
    command: str = "FHI_AL",
) -> Totals:
    """Kill runs until there were so many kills.

    Args:
        start: starts a command, with the arguments of `Running`.
        seed: of all instants.
        ranks: of the jobs, or None for a process alone.
        kills: how many.
        make: makes the folder of a run, by number.
        check: looks at a finished run.
        command: to be run.
    """
    killer = Killer(start, seed, ranks, command)
    number = 0
    while (left := kills - killer.totals.kills.total()) > 0:
        folder = make(number)
        number += 1
        killer.finish(folder, left)
        check(folder)
        shutil.rmtree(folder)
    print(f"\n{ranks or 1} ranks, seed {seed}: {killer.totals}")
    return killer.totals
