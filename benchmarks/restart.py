"""Measure what a long journal costs at the start: from the command to its first new effect.

A journal of 100,000 events (simulated, but with as many label files as labels) is written into a
folder with real inputs, and the command is started there and in a folder without a journal, in
turn. `python benchmarks/restart.py [--events N]`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import yaml

from fhi_al.errors import StoppedError
from fhi_al.folder.artefacts import missing_artefacts
from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.state import State
from fhi_al.record.events import Event
from fhi_al.record.journal import Journal
from fhi_al.record.outcome import Worker
from fhi_al.reference.engine import engine_class
from fhi_al.run.controller import Controller
from fhi_al.run.opening import join_run
from fhi_al.settings import load_inputs
from fhi_al.workers.channels import InlineChannel
from fhi_al.workers.simulated import SimulatedWorker

GEOMETRY = "atom 0.0 0.0 0.119 O\natom 0.0 0.763 -0.477 H\natom 0.0 -0.763 -0.477 H\n"
SETTINGS = {
    "mace_settings.yaml": {
        "ARCHITECTURE": {"num_channels": 8, "max_L": 0, "max_ell": 2, "correlation": 2},
        "MISC": {"device": "cpu"},
    },
    "active_learning_settings.yaml": {
        "ACTIVE_LEARNING": {
            "initial_sampling": "perturb",
            "ensemble_size": 2,
            "num_trajectories": 8,
            "max_MD_steps": 10**9,
            "max_set_size": 10**6,
            "max_initial_epochs": 20,
            "desired_acc": 1e-9,
        },
        "REFERENCE": {"engine": "xtb"},
    },
}


def write_inputs(folder: Path) -> Path:
    folder.mkdir()
    for name, sections in SETTINGS.items():
        (folder / name).write_text(yaml.safe_dump(sections))
    (folder / "geometry.in").write_text(GEOMETRY)
    return folder


class QuickJournal(Journal):
    """A journal in memory, written in one go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.waiting: list[Event] = []

    def append(self, *events: Event) -> None:
        self.waiting += events

    def write(self) -> None:
        super().append(*self.waiting)


def write_journal(folder: Path, n_events: int) -> tuple[int, int]:
    """Simulate a run, and write its journal and (empty) files; how many events and labels."""
    inputs = load_inputs(folder)
    kind = engine_class(inputs.reference.engine)
    digest = kind.digest(inputs.reference, inputs.control, inputs.elements)
    journal = QuickJournal(folder / "restart" / "journal.jsonl")
    joined = join_run(journal, "run", inputs, digest)
    journal.append(joined.opened)
    simulated = SimulatedWorker(joined.state.rules)
    channels = [
        InlineChannel(Worker("reference", 0), simulated),
        InlineChannel(Worker("ML", 0), simulated),
    ]
    controller = Controller(
        joined.state,
        journal,
        channels,
        stop=lambda: "enough" if len(journal.waiting) >= n_events else None,
    )
    try:
        controller.run()
    except StoppedError:
        journal.write()
    state: State = controller.state
    artefacts = RunFolder(inputs, digest, joined.opened.run).artefacts
    paths = missing_artefacts(state, artefacts)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return len(journal.waiting), sum(state.books.outcomes.values())


def seconds_to_first_effect(folder: Path) -> tuple[float, float]:
    """From the command to its first `Started` in the journal, when it is killed.

    Returns:
        Wall time, and processor time.
    """
    path = folder / "restart" / "journal.jsonl"
    before = path.stat().st_size if path.exists() else 0
    command = [str(Path(sysconfig.get_path("scripts")) / "FHI_AL"), "--directory", str(folder)]
    start, used = time.perf_counter(), processor_seconds()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, env={**os.environ}
    )
    try:
        while True:
            time.sleep(0.002)
            if path.exists() and path.stat().st_size > before:
                with path.open("rb") as file:
                    file.seek(before)
                    if b'"Started"' in file.read():
                        wall = time.perf_counter() - start
                        break
            if process.poll() is not None:
                sys.exit(f"{folder}: the command ended too soon")
    finally:
        process.kill()
        process.wait()
    return wall, processor_seconds() - used


def processor_seconds() -> float:
    """Used by all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        long = write_inputs(Path(name) / "long")
        n_events, n_labels = write_journal(long, arguments.events)
        size = (long / "restart" / "journal.jsonl").stat().st_size
        print(f"{n_events} events, {size / 1e6:.1f} MB, {n_labels} labels")
        times: dict[str, list[tuple[float, float]]] = {"fresh": [], "long": []}
        whole = (long / "restart" / "journal.jsonl").read_bytes()
        for repeat in range(arguments.repeats):
            fresh = write_inputs(Path(name) / f"fresh{repeat}")
            times["fresh"].append(seconds_to_first_effect(fresh))
            (long / "restart" / "journal.jsonl").write_bytes(whole)
            times["long"].append(seconds_to_first_effect(long))
        medians = {}
        for kind, pairs in times.items():
            wall, processor = (statistics.median(values) for values in zip(*pairs, strict=True))
            medians[kind] = wall, processor
            print(f"{kind}: {wall:.2f} s, {processor:.2f} s of a processor (medians)")
        wall, processor = (b - a for a, b in zip(medians["fresh"], medians["long"], strict=True))
        print(
            f"A journal of {n_events} events costs {wall:.2f} s more than none "
            f"({processor:.2f} s of a processor); the target is 3 s"
        )


if __name__ == "__main__":
    main()
