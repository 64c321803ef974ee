"""What a command leaves for the user, besides models and data: settings, tables, last words."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path

from fhi_al.errors import InputError, StorageError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.mpi.world import launcher
from fhi_al.procedures.run import begun
from fhi_al.procedures.state import State
from fhi_al.record.files import write_text
from fhi_al.record.journal import read_journal
from fhi_al.settings import AL_FILE, MACE_FILE, Inputs, resolved_yaml

log = logging.getLogger(__name__)

_INPUT_FILES = ("control.in", "geometry.in", MACE_FILE, AL_FILE)


def tell_problems(error: InputError) -> None:
    """Say what is wrong with the input, all of it."""
    print(f"{len(error.problems)} problem(s) in the input:", file=sys.stderr)
    for problem in error.problems:
        print(f"  - {problem}", file=sys.stderr)


def keep_traceback(directory: Path, text: str) -> str:
    """Write a traceback to a file; its path, or the text itself where that is not possible."""
    path = Path(directory) / "fhi_al_error.log"
    try:
        write_text(path, text)
    except StorageError:
        return text
    return str(path)


def write_settings(inputs: Inputs, folder: RunFolder) -> None:
    """Keep what the run was asked for beside its results."""
    target = folder.results / "settings"
    for name in _INPUT_FILES:
        source = folder.root / name
        if source.exists():
            write_text(target / "as_given" / name, source.read_text(encoding="utf-8"))
    for name, text in resolved_yaml(inputs).items():
        write_text(target / "resolved" / name, text)


def report(state: State, folder: RunFolder, peaks: list[float]) -> None:
    """Tell the user what there is now.

    Args:
        state: after the last event.
        folder: of the run.
        peaks: memory of the ranks in MB; empty where nothing was done.
    """
    from rich.console import Console

    from fhi_al.analysis.histories import write_histories
    from fhi_al.analysis.summary import print_summary, save_summary, summarise
    from fhi_al.report.run_report import REPORT, try_report

    records, _ = read_journal(folder.journal)
    analysis = folder.inputs.al.active_learning.analysis
    write_histories(folder.results, records, analysis=analysis)
    summary = summarise(records, peaks)
    if peaks or not (folder.results / "summary.json").exists():
        # A command that finds the run finished knows less: nothing of memory.
        save_summary(summary, folder.results)
    wanted = folder.inputs.al.misc.report
    if wanted and (peaks or not (folder.results / REPORT).exists()):
        try_report(folder, records, state.books.weights)
    # Plain text: mpirun gives rank 0 a terminal of its own, even where the user's is a file.
    print_summary(summary, Console(highlight=False, force_terminal=False))


def report_atomic_energies(state: State, folder: RunFolder) -> None:
    """Tell the user the energies of the isolated atoms, ready to be pasted."""
    assert state.books.atomic_energies is not None
    text = "ARCHITECTURE:\n  atomic_energies:\n" + "".join(
        f"    {element}: {energy:.8f}\n" for element, energy in state.books.atomic_energies.items()
    )
    write_text(folder.results / "atomic_energies.yaml", text)
    log.info("Energies of the isolated atoms in eV, for mace_settings.yaml:\n\n%s", text)


def describe_stop(reason: str, state: State, size: int) -> str:
    """What is saved, what begins again, and how to go on.

    Args:
        reason: why the command stopped.
        state: after the last event.
        size: number of ranks.
    """
    saved = [f"{sum(state.books.outcomes.values())} labels"]
    if state.books.members:
        saved.append(f"the models after {max(m.epoch for m in state.books.members)} epochs")
    for stage in begun(state):
        own = stage.own(state)
        if any(stage.walkers(own)) and (moving := stage.trajectories(state, own)):
            steps = ", ".join(str(trajectory.step) for trajectory in moving)
            saved.append(f"the trajectories at steps {steps}")
    text = f"Stopped: {reason}. Saved in restart/: {', '.join(saved)}."
    if state.books.in_flight:
        text += f" Given up, to begin again: {', '.join(state.books.in_flight)}."
    return f"{text}\nTo go on: {command_line(size)}"


def command_line(size: int) -> str:
    """This command, as it can be given again."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return shlex.join([*([*launcher().split(), "-n", str(size)] if size > 1 else []), *words])
