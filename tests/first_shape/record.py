"""Records folders of runs that the first shape of the program has begun: `record.py OLD [NAME...]`.

OLD is a checkout of 65e7cb0, the last commit of that shape, whose package is the one that the
Python at work imports, and whose commands are beside it:

    git worktree add OLD 65e7cb0
    (cd OLD && make venv)
    unshare --uts sh -c 'hostname node1; OLD/.venv/bin/python tests/first_shape/record.py OLD'

(`unshare`, as root, so that no real host is named in the journals.) Runs are made in
/tmp/first_shape, which must not exist, and kept as NAME.tar.xz beside this file. Each holds

    run/         the folder, as the program left it
    calls.txt    the calls of the reference, see counted_xtb.py
    status.json  what the program's FHI_AL-status said of it
    shown.txt    what its `FHI_AL-journal show` said
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE, OLD = Path(__file__).parent, Path(sys.argv[1]).absolute()
WORK = Path("/tmp/first_shape")
sys.path.insert(0, str(OLD / "tests" / "cli"))
import cli_runs  # noqa: E402
from ase.build import molecule  # noqa: E402
from ase.io import read, write  # noqa: E402

MACE = {
    "ARCHITECTURE": {
        "num_channels": 4,
        "max_ell": 1,
        "num_radial_basis": 4,
        "radial_MLP": [8],
        "MLP_irreps": "4x0e",
    },
    # Else tests would compile, on slow machines.
    "MISC": {"evaluation": "eager"},
}
SHORT = {
    "n_samples": 2,
    "initial_intermediate_epochs": 10,
    "max_initial_epochs": 20,
    "max_set_size": 8,
    "max_MD_steps": 40,
    "max_final_epochs": 4,
}
COUNTED = {"engine": "ase", "calculator": "counted_xtb.CountedXtb"}
Journal = list[dict[str, Any]]


class Run:
    """A run to be recorded.

    Args:
        name: of its folder, and archive.
        active_learning: settings that differ from `SHORT`.
        reference: REFERENCE.
        mace: sections of mace_settings.yaml that differ from `MACE`.
        misc: MISC of active_learning_settings.yaml.
    """

    def __init__(
        self,
        name: str,
        active_learning: dict[str, Any] | None = None,
        reference: dict[str, Any] = COUNTED,
        mace: dict[str, Any] | None = None,
        misc: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.folder = name, WORK / name / "run"
        self.calls = self.folder.with_name("calls.txt")
        self.calls.parent.mkdir(parents=True)
        self.calls.touch()
        al = {"ACTIVE_LEARNING": {**SHORT, **(active_learning or {})}, "MISC": misc or {}}
        cli_runs.write_inputs(
            self.folder, mace={**MACE, **(mace or {})}, al={**al, "REFERENCE": reference}
        )

    def start(self, command: str, *options: str, ranks: int | None = None) -> cli_runs.Running:
        """Start a command."""
        paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        variables = {"COUNTED_XTB": str(self.calls), "PYTHONPATH": paths}
        return cli_runs.Running(command, self.folder, ranks, options, **variables)

    def faults(self, **faults: str) -> None:
        """Say which calls of the reference go wrong from now on, by number (`n7`) or `any`."""
        text = json.dumps({number.lstrip("n"): how for number, how in faults.items()})
        new = self.calls.with_suffix(".new")
        new.write_text(text)
        new.replace(self.calls.with_suffix(".faults"))

    def n_calls(self) -> int:
        """How often the reference was called."""
        return len(self.calls.read_text().splitlines())

    def journal(self) -> Journal:
        """All whole records so far."""
        paths = sorted((self.folder / "restart").glob("*.jsonl"))
        lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
        return [json.loads(line.split(b" ", 3)[3]) for line in lines if line.endswith(b"\n")]

    def wait(self, running: cli_runs.Running, true: Callable[[Journal], bool]) -> None:
        """Wait for a moment of the run."""
        end = time.monotonic() + 200
        while not true(self.journal()):
            assert running.alive(), running.output.read_text()
            assert time.monotonic() < end, f"{self.name}: the moment does not come"
            time.sleep(0.01)

    def kill(self, running: cli_runs.Running) -> None:
        """SIGKILL to all ranks."""
        ranks = running.pids()
        running.kill()
        while any(Path(f"/proc/{pid}").exists() for pid in ranks):
            time.sleep(0.01)

    def keep(self) -> None:
        """Pack it up, with what the program says of it; always the same way."""
        for file, words in {
            "status.json": ("FHI_AL-status", "--json"),
            "shown.txt": ("FHI_AL-journal", "show"),
        }.items():
            (self.folder.parent / file).write_text(cli_runs.ask(self.folder, *words).stdout)
        for path in self.folder.rglob("*"):
            for private in (str(OLD), str(HERE), sys.prefix, str(Path.home())):
                assert path.is_dir() or private.encode() not in path.read_bytes(), (path, private)
        archive = HERE / f"{self.name}.tar.xz"
        with tarfile.open(archive, "w:xz", preset=9, format=tarfile.PAX_FORMAT) as tar:
            for name in ("calls.txt", "run", "shown.txt", "status.json"):
                tar.add(self.folder.with_name(name), name, filter=anonymous)
        print(f"{self.name}: {archive.stat().st_size} bytes, {count(self.journal(), '')} records")


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owner and time (which makes all locks old ones)."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def count(journal: Journal, kind: str) -> int:
    """How many events there are of a kind; "": of all."""
    return sum(kind in ("", event["event"]) for event in journal)


def in_work(journal: Journal, *kinds: str) -> bool:
    """Whether work of all these kinds has begun and not ended."""
    ended = {e["effect"] for e in journal if e["event"] != "Started" and "effect" in e}
    begun = {e["effect"] for e in journal if e["event"] == "Started"} - ended
    return all(any(effect.startswith(kind) for effect in begun) for kind in kinds)


def initial_dataset() -> None:
    """Killed while the third round is labelled, and the models train on the second."""
    run = Run("initial_dataset", {"max_initial_epochs": 30})
    run.faults(n11="stuck")
    running = run.start("FHI_AL", ranks=2)
    run.wait(running, lambda j: in_work(j, "train-1", "label") and run.n_calls() == 11)
    run.kill(running)
    run.keep()


def dynamics() -> None:
    """Killed while one trajectory waits for its label and others move; a record is torn."""
    run = Run("dynamics", {"num_trajectories": 3, "max_set_size": 12})
    running = run.start("FHI_AL", ranks=2)
    run.wait(running, lambda j: count(j, "Advanced") > 1)
    run.faults(any="stuck")
    run.wait(running, lambda j: in_work(j, "advance") and run.n_calls() > count(j, "Labelled"))
    run.kill(running)
    # What a kill in the middle of a write leaves, which is hard to hit; see tests/faults/kills.py.
    path = run.folder / "restart" / "journal.jsonl"
    number, rest = path.read_bytes().splitlines()[-1].split(b" ", 1)
    path.write_bytes(path.read_bytes() + b"%d %s" % (int(number) + 1, rest[:40]))
    run.keep()


def training() -> None:
    """Killed while the models train in active learning, which began with data of `finished`."""
    run = Run("training", {"initial_data": "mine.xyz", "intermediate_epochs": 3})
    write(run.folder / "mine.xyz", read(WORK / "finished" / "run" / "data" / "train.xyz", ":8"))
    running = run.start("FHI_AL-al")
    run.wait(running, lambda j: count(j, "Advanced") > 0 and in_work(j, "train-3"))
    time.sleep(0.1)
    run.kill(running)
    run.keep()


def convergence() -> None:
    """Stopped in good order (SIGTERM) while the final model converges."""
    sequential = {"deterministic": True}  # in which it converges by ten epochs at a time
    run = Run("convergence", {"max_final_epochs": 40}, {"engine": "xtb"}, misc=sequential)
    running = run.start("FHI_AL")
    run.wait(running, converging)
    running.send(signal.SIGTERM, 0)
    assert running.wait().code == 75
    run.keep()


def converging(journal: Journal) -> bool:
    """Whether the final model has begun to converge."""
    exports = count(journal, "Advanced") and in_work(journal, "train")
    last = [e for e in journal if e["event"] == "Trained"][-1:]
    return bool(exports and last and last[0]["epochs"] == 10 and len(last[0]["trained"]) == 1)


def damaged() -> None:
    """Killed in the convergence, with all checkpoints; then a byte of the journal changes."""
    run = Run(
        "damaged",
        {"max_final_epochs": 20},
        {"engine": "xtb"},
        mace={"MISC": {**MACE["MISC"], "keep_checkpoints": True}},
        misc={"deterministic": True},
    )
    running = run.start("FHI_AL")
    run.wait(running, converging)
    run.kill(running)
    path = run.folder / "restart" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    middle = [i for i, line in enumerate(lines) if b'"event":"Advanced"' in line][-1]
    lines[middle] = lines[middle].replace(b"Advanced", b"Advancee")
    path.write_bytes(b"".join(lines))
    run.keep()


def faults() -> None:
    """Labels are rejected for all reasons; the reference ends the process, twice."""
    settings = {"converge_initial": True, "analysis": True, "sanity_skip": 10}
    run = Run("faults", settings, misc={"deterministic": True})
    run.faults(n3="scf", n5="exit", n8="pull", n9="unit")
    assert run.start("FHI_AL").wait().code != 0
    running = run.start("FHI_AL")
    run.wait(running, lambda j: count(j, "Advanced") > 1)
    run.faults(any="exit")
    assert running.wait().code != 0
    run.keep()


def atomic_energies() -> None:
    """Killed at the third of the isolated atoms."""
    run = Run("atomic_energies", reference={**COUNTED, "spin": "uhf"})
    run.faults(n3="stuck")
    running = run.start("FHI_AL-atomic-energies")
    run.wait(running, lambda _: run.n_calls() == 3)
    run.kill(running)
    run.keep()


def finished() -> None:
    """Finished; then, in its folder, a recalculation is killed at its third structure."""
    mace = {"ARCHITECTURE": {**MACE["ARCHITECTURE"], "atomic_energies": "auto"}}
    run = Run("finished", reference={**COUNTED, "spin": "uhf"}, mace=mace)
    done = run.start("FHI_AL").wait()
    assert done.code == 0, done.text
    n_calls = run.n_calls()
    frames = [molecule("H2O") for _ in range(5)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
    write(run.folder / "more.xyz", frames)
    run.faults(**{f"n{n_calls + 3}": "stuck"})
    running = run.start("FHI_AL-recalculate", str(run.folder / "more.xyz"))
    run.wait(running, lambda _: run.n_calls() == n_calls + 3)
    run.kill(running)
    run.keep()


ALL = [finished, initial_dataset, dynamics, training, convergence, damaged, faults, atomic_energies]

if __name__ == "__main__":
    WORK.mkdir()
    try:
        for record in ALL:
            if not sys.argv[2:] or record.__name__ in sys.argv[2:]:
                record()
    finally:
        shutil.rmtree(WORK)
