"""Starts the installed commands on small systems, and reads what they leave behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fhi_al.record.events import Event, Labelled, Opened
from fhi_al.record.journal import read_journal

HERE = Path(__file__).parent
SCRIPTS = Path(sysconfig.get_path("scripts"))

DETERMINISTIC = {"MISC": {"deterministic": True}}

WATER = """\
atom 0.0 0.0 0.119 O
atom 0.0 0.763 -0.477 H
atom 0.0 -0.763 -0.477 H
"""

# Small enough to train in a second, good enough for molecular dynamics that holds together.
MACE: dict[str, dict[str, Any]] = {
    "GENERAL": {"name_exp": "water", "default_dtype": "float64", "seed": 1},
    "ARCHITECTURE": {"r_max": 3.5, "num_channels": 8, "max_L": 0, "max_ell": 2, "correlation": 2},
    "TRAINING": {"batch_size": 2, "lr": 0.01},
    "MISC": {"device": "cpu"},
}
AL: dict[str, dict[str, Any]] = {
    "ACTIVE_LEARNING": {
        "initial_sampling": "perturb",
        "perturb_displacement_A": 0.03,
        "ensemble_size": 2,
        "num_trajectories": 2,
        "desired_acc": 0.001,
        "valid_ratio": 0.25,
        "n_samples": 4,
        "initial_intermediate_epochs": 10,
        "max_initial_epochs": 20,
        "max_set_size": 13,
        "max_MD_steps": 60,
        "skip_step_mlff": 2,
        "uncertainty_warmup": 4,
        "max_epochs_worker": 2,
        "intermediate_epochs": 1,
        "max_final_epochs": 4,
    },
    "MD": {"temperature_K": 200},
    "REFERENCE": {"engine": "xtb"},
    "PARALLEL": {"ml_ranks": "auto"},
    "MISC": {"report": False},  # some seconds each; the runs that are about it ask for it
}


def write_inputs(
    directory: Path,
    *,
    mace: Mapping[str, Any] | None = None,
    al: Mapping[str, Any] | None = None,
    geometry: str = WATER,
    control: str | None = None,
) -> Path:
    """Write the input files of a run.

    Args:
        directory: made if need be.
        mace: section -> keys that differ from `MACE`; None in place of keys leaves a section out,
            a list stands for itself.
        al: likewise, for `AL`.
        geometry: geometry.in.
        control: control.in, or None for none.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, base, changes in (
        ("mace_settings.yaml", MACE, mace or {}),
        ("active_learning_settings.yaml", AL, al or {}),
    ):
        sections = {
            section: changes[section]
            if isinstance(changes.get(section), list)
            else {**base.get(section, {}), **(changes.get(section) or {})}
            for section in {**base, **changes}
            if changes.get(section, {}) is not None
        }
        (directory / name).write_text(yaml.safe_dump(sections))
    (directory / "geometry.in").write_text(geometry)
    if control is not None:
        (directory / "control.in").write_text(control)
    return directory


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, without what a started MPI has left there."""
    foreign = ("OMPI_MCA_", "OMPI_COMM", "PMIX_", "PRTE_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        **changes,
    }


def command_line(
    command: str, directory: Path, ranks: int | None, options: Sequence[str] = ()
) -> list[str]:
    """The words of a command, alone or under mpirun."""
    words = [str(SCRIPTS / command), "--directory", str(directory), *options]
    if ranks is None:
        return words
    mpirun = SCRIPTS / "mpirun"
    launcher = str(mpirun) if mpirun.exists() else "mpirun"
    return [launcher, "--oversubscribe", "-n", str(ranks), *words]


@dataclass
class Done:
    """A command that has ended.

    Attributes:
        code: the exit code.
        text: everything that it printed.
        seconds: wall time.
    """

    code: int
    text: str
    seconds: float


class Running:
    """A command at work. Everything that it printed is in `output`."""

    def __init__(
        self,
        command: str,
        directory: Path,
        ranks: int | None = None,
        options: Sequence[str] = (),
        *,
        limit: int = resource.RLIM_INFINITY,
        **variables: str,
    ) -> None:
        self.output = directory.parent / f"{directory.name}.output"
        self._started = time.monotonic()
        with self.output.open("w") as file:
            self._process = subprocess.Popen(
                command_line(command, directory, ranks, options),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=directory.parent,
                env=environment(**variables),
                start_new_session=True,
                # A file that would become larger can't be written.
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
            )
        self._ranks = ranks

    def alive(self) -> bool:
        return self._process.poll() is None

    def pids(self) -> list[int]:
        """Of the ranks, in the order of their start."""
        pid = self._process.pid
        if self._ranks is None:
            return [pid]
        try:
            return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def send(self, number: int, rank: int | None) -> None:
        """A signal to one rank (in the order of their start), or to mpirun."""
        os.kill(self._process.pid if rank is None else self.pids()[rank], number)

    def kill(self) -> None:
        """SIGKILL to all ranks at once, and to mpirun: as if the power failed."""
        if self.alive():
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.kill_launcher()

    def kill_launcher(self) -> None:
        """SIGKILL to mpirun alone."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout: float = 150) -> Done:
        """Wait for the end; a command that doesn't end is a failure of the test."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end after {timeout} s:\n{self.output.read_text()}") from None
        return Done(code, self.output.read_text(), time.monotonic() - self._started)


def call(
    command: str,
    directory: Path,
    ranks: int | None = None,
    *,
    timeout: float = 150,
    options: Sequence[str] = (),
    **variables: str,
) -> Done:
    """Run a command to its end."""
    return Running(command, directory, ranks, options, **variables).wait(timeout)


def ask(folder: Path, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is done in seconds, in a folder, with these words."""
    return subprocess.run(
        [str(SCRIPTS / command), *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
    )


def succeed(command: str, directory: Path, ranks: int | None = None, **variables: str) -> Done:
    """Run a command that must succeed."""
    done = call(command, directory, ranks, **variables)
    assert done.code == 0, done.text
    assert "\x1b" not in done.text, "control characters in a file"
    return done


# --- what a run leaves -------------------------------------------------------------------------


def journal(directory: Path, name: str = "journal.jsonl") -> list[Event]:
    """All events so far; none if there is no journal yet."""
    path = directory / "restart" / name
    return [record.event for record in read_journal(path)[0]] if path.exists() else []


def count(directory: Path, kind: type[Event]) -> int:
    """How many events of a kind the journal has."""
    return sum(isinstance(event, kind) for event in journal(directory))


def label_files(directory: Path) -> list[Path]:
    """All label files."""
    return sorted((directory / "restart" / "labels").glob("*/*.h5"))


def labelled(directory: Path) -> list[str]:
    """Keys of all labels, in the order of the journal."""
    return [event.key for event in journal(directory) if isinstance(event, Labelled)]


def n_commands(directory: Path) -> int:
    """How many commands have worked here."""
    return count(directory, Opened)


def summary(directory: Path) -> dict[str, Any]:
    """results/summary.json."""
    found: dict[str, Any] = json.loads((directory / "results" / "summary.json").read_text())
    return found


def contents(directory: Path) -> dict[str, str]:
    """Path -> digest of every file, and "" of every folder, below a folder."""
    return {
        str(path.relative_to(directory)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        )
        for path in directory.rglob("*")
    }
