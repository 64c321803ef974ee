"""From a command to a running controller: inputs, roles, workers, journal."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhi_al import __version__
from fhi_al.controller import Controller, Listener, WorkerError
from fhi_al.errors import FhiAlError, InputError
from fhi_al.events import Goal
from fhi_al.files import why_not_writable, write_text
from fhi_al.housekeeping import Housekeeper
from fhi_al.journal import Journal, read_journal
from fhi_al.kept_aside import KeptAside
from fhi_al.narrator import Narrator, StageLog, start_logging, start_worker_logging
from fhi_al.opening import join_run, opening
from fhi_al.parallel.channels import (
    Channel,
    InlineChannel,
    MpiChannel,
    gather,
    share,
)
from fhi_al.parallel.layout import Layout, plan_layout, visible_gpus
from fhi_al.parallel.ml_worker import MlWorker
from fhi_al.parallel.workers import (
    FailureChannel,
    ReferenceWorker,
    assist,
    describe_failure,
    report_failure,
    serve,
)
from fhi_al.parallel.world import alone_for_ase, claim_threads, peak_memory_mb, world
from fhi_al.procedures.run import finished
from fhi_al.procedures.state import State
from fhi_al.reference.black_box import BlackBox, forget_deaths, read_deaths
from fhi_al.reference.engine import Labeller, engine_class
from fhi_al.reference.rescue import RescuingEngine
from fhi_al.run_folder import RunFolder
from fhi_al.settings import AL_FILE, MACE_FILE, Inputs, load_inputs, resolved_yaml

log = logging.getLogger(__name__)

_QUEUE_DEPTH = 2
_INPUT_FILES = ("control.in", "geometry.in", MACE_FILE, AL_FILE)


def launch(goal: Goal, directory: Path) -> int:
    """Run a command on all ranks.

    Args:
        goal: what it is to reach.
        directory: with the input files.

    Returns:
        The exit code of this rank.
    """
    comm = None
    if not sys.warnoptions:
        # Warnings of libraries are for their developers; ours are messages in the log.
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        comm = world()
        if comm is None or comm.rank == 0:
            start_logging("INFO")  # until the settings are known
        else:
            start_worker_logging(comm.rank)
        return _Launch(goal, directory, comm).run()
    except InputError as error:
        if comm is None or comm.rank == 0:
            print(f"{len(error.problems)} problem(s) in the input:", file=sys.stderr)
            for problem in error.problems:
                print(f"  - {problem}", file=sys.stderr)
        return error.exit_code
    except FhiAlError as error:
        if comm is None or comm.rank == 0:
            log.error("%s", error)
        return error.exit_code
    except WorkerError as error:
        failed = error.failed
        where = _keep_traceback(directory, failed.traceback)
        log.error(
            "rank %d on %s broke down: %s (details: %s)",
            failed.rank,
            failed.host,
            failed.error,
            where,
        )
    except Exception as error:
        if comm is not None and comm.rank != 0:
            report_failure(comm, describe_failure(comm.rank, "worker", error))
        where = _keep_traceback(directory, traceback.format_exc())
        log.error("internal error: %s: %s (details: %s)", type(error).__name__, error, where)
    if comm is not None and comm.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        comm.Abort(1)
    return 1


def _keep_traceback(directory: Path, text: str) -> str:
    path = Path(directory) / "fhi_al_error.log"
    try:
        write_text(path, text)
    except OSError:
        return text
    return str(path)


@dataclass(frozen=True)
class _Plan:
    """What rank 0 has found out, for all ranks."""

    inputs: Inputs
    layout: Layout
    engine_digest: str
    needs_foundation: bool
    needs_atoms: bool


class _Launch:
    """One command on one rank."""

    def __init__(self, goal: Goal, directory: Path, comm: Any) -> None:
        self._goal = goal
        self._directory = directory
        self._comm = comm
        self._rank = comm.rank if comm is not None else 0
        self._group: Any = None
        self._ml_comm: Any = None
        self._journal: Journal | None = None
        self._state: State | None = None

    def run(self) -> int:
        """Start everything, work, and end."""
        plan = self._agree_on_plan()
        if plan is None:
            return 0
        folder = RunFolder(plan.inputs, plan.engine_digest)
        alone_for_ase()
        claim_threads(self._comm)
        with _new_folder(folder.reference, keep=False) as keep:
            engine, ml = self._agree_on_workers(plan, folder)
            keep()
        if self._rank == 0:
            self._control(plan, folder, engine, ml)
        else:
            try:
                if ml is not None:
                    serve(self._ml_comm, ml)
                elif engine is not None and self._group.rank == 0:
                    serve(self._comm, ReferenceWorker(folder, engine, self._group))
                elif engine is not None:
                    assist(engine, self._group)
            except Exception as error:
                worker = "ml" if ml is not None else "reference"
                report_failure(self._comm, describe_failure(self._rank, worker, error))
        _remove_empty(folder.reference)
        peaks = gather(self._comm, peak_memory_mb())
        if self._rank == 0:
            assert self._state is not None
            _report(self._goal, self._state, folder, peaks)
        return 0

    def _agree_on_plan(self) -> _Plan | None:
        """Rank 0 reads and checks; all ranks get the plan, or raise the same error."""
        outcome: Any = None
        if self._rank == 0:
            try:
                outcome = self._plan()
            except FhiAlError as error:
                outcome = error
        outcome = share(self._comm, outcome)
        if isinstance(outcome, FhiAlError):
            raise outcome
        plan: _Plan | None = outcome
        return plan

    def _plan(self) -> _Plan | None:
        inputs = load_inputs(self._directory)
        settings = inputs.reference
        engine = engine_class(settings.engine)
        digest = engine.digest(settings, inputs.control, inputs.elements)
        size = self._comm.size if self._comm is not None else 1
        parallel = inputs.al.parallel
        gpus = 0 if inputs.mace.misc.device == "cpu" else visible_gpus()
        layout = plan_layout(
            size,
            parallel.ml_ranks,
            parallel.reference_groups,
            gpus,
            parallel_engine=engine.parallel,
            most_ml=inputs.al.active_learning.ensemble_size,
        )
        folder = RunFolder(inputs, digest)
        _check_writable(folder)
        name = "atomic_energies.jsonl" if self._goal == "atomic_energies" else folder.journal.name
        self._journal = Journal(folder.journal.with_name(name))
        self._state = join_run(self._journal, self._goal, inputs, digest)
        if finished(self._state):
            start_logging(inputs.mace.misc.log_level)
            log.info("This run is finished already; nothing to do.")
            _report(self._goal, self._state, folder, [])
            return None
        return _Plan(
            inputs,
            layout,
            digest,
            needs_foundation=self._state.stage == "initial_dataset"
            and self._state.rules.initial_method == "foundation",
            needs_atoms=self._state.stage == "atomic_energies",
        )

    def _agree_on_workers(
        self, plan: _Plan, folder: RunFolder
    ) -> tuple[Labeller | None, MlWorker | None]:
        """Every rank makes what it needs for its role; if any can't, none goes on."""
        layout = plan.layout
        number = layout.group_of(self._rank)
        if layout.size > 1:
            own = self._comm.Split(0 if number is None else number + 1, self._rank)
            self._group, self._ml_comm = (None, own) if number is None else (own, None)
        problems: list[str] = []
        engine: Labeller | None = None
        ml: MlWorker | None = None
        known: dict[str, float] | None = None
        try:
            if number is not None:
                engine = self._engine(number, plan, folder)
                if engine is not None and plan.needs_atoms:
                    known = engine.atomic_energies()
        except InputError as error:
            problems += error.problems
        except FhiAlError as error:
            # Not to be raised here: the other ranks wait for this one's answer.
            problems.append(str(error))
        try:
            if self._rank in layout.ml:
                device = _device(plan.inputs, layout.ml.index(self._rank))
                ml = MlWorker(folder, device, self._ml_comm)
                if plan.needs_foundation and self._rank == 0:
                    ml.prepare_foundation()
        except InputError as error:
            problems += error.problems
        except FhiAlError as error:
            # Not to be raised here: the other ranks wait for this one's answer.
            problems.append(str(error))
        answers = gather(self._comm, (problems, known))
        # The ranks of a group report the same problem: once is enough.
        if everything := list(dict.fromkeys(p for ranks, _ in answers for p in ranks)):
            raise InputError(everything)
        if ml is not None:
            ml.atomic_energies = next((known for _, known in answers if known), {})
        return engine, ml

    def _engine(self, number: int, plan: _Plan, folder: RunFolder) -> Labeller | None:
        group = self._group
        inputs = plan.inputs
        kind = engine_class(inputs.reference.engine)
        if group is not None and group.rank > 0 and not kind.parallel:
            return None
        directory = folder.reference / f"group{number}"
        directory.mkdir(parents=True, exist_ok=True)
        comm = group if kind.parallel else None
        return RescuingEngine(
            kind,
            inputs.reference,
            inputs.control,
            inputs.elements,
            comm,
            directory,
            inputs.al.active_learning.max_net_force_eV_per_A,
            BlackBox(folder.deaths, f"rank{self._rank}"),
        )

    def _control(
        self, plan: _Plan, folder: RunFolder, engine: Labeller | None, ml: MlWorker | None
    ) -> None:
        assert ml is not None
        assert self._state is not None
        assert self._journal is not None
        stage_log = StageLog(folder.logs)
        start_logging(plan.inputs.mace.misc.log_level, stage_log)
        _write_settings(plan.inputs, folder)
        log.info("FHI_AL %s on %s, %s", __version__, socket.gethostname(), plan.layout.describe())
        for warning in plan.inputs.warnings:
            log.warning("%s", warning)
        channels: list[Channel] = []
        if engine is not None:
            worker = ReferenceWorker(folder, engine, None)
            channels.append(InlineChannel("reference0", worker, reference=True))
        else:
            channels += [
                MpiChannel(
                    f"reference{number}",
                    self._comm,
                    ranks[0],
                    reference=True,
                    depth=_QUEUE_DEPTH if self._state.rules.asynchronous else 1,
                )
                for number, ranks in enumerate(plan.layout.groups)
            ]
            channels.append(FailureChannel(self._comm))
        channels.append(InlineChannel("ml", ml, reference=False))
        listeners: list[Listener] = [Narrator(self._state, stage_log), Housekeeper(folder)]
        if self._goal != "atomic_energies":  # which has a journal of its own
            listeners.append(KeptAside(folder, self._state))
        opened = opening(self._goal, plan.inputs, plan.engine_digest)
        self._journal.append(opened)
        controller = Controller(self._state, self._journal, channels, listeners)
        try:
            controller.record(*read_deaths(folder.deaths))
            forget_deaths(folder.deaths)
            controller.run()
        except FhiAlError as error:
            if plan.layout.size > 1 and controller.state.in_flight:
                # A worker may be busy for hours with what nobody needs any more.
                log.error("%s", error)
                self._comm.Abort(error.exit_code)
            raise
        finally:
            for channel in channels:
                channel.close()
            self._journal.close()
            self._state = controller.state


def _check_writable(folder: RunFolder) -> None:
    paths = (folder.root, folder.restart, folder.data, folder.models, folder.results, folder.logs)
    checkpoints = folder.checkpoint("none", 0).parent
    problems = [why for path in {*paths, checkpoints} if (why := why_not_writable(path))]
    if problems:
        raise InputError(sorted(problems))


def _device(inputs: Inputs, local_index: int) -> str:
    wanted = inputs.mace.misc.device
    if wanted == "cpu" or (wanted == "auto" and not visible_gpus()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return f"cuda:{local_index % torch.cuda.device_count()}"
    if wanted == "auto":
        return "cpu"
    raise InputError(
        f"mace_settings.yaml: MISC.device: {wanted} is asked for, but torch finds no such device "
        f"on {socket.gethostname()}; set it to cpu or auto, or run where there is a GPU"
    )


@contextlib.contextmanager
def _new_folder(path: Path, *, keep: bool) -> Iterator[Any]:
    """Leave no new folder behind if the start fails."""
    import shutil

    new = not path.exists()
    kept = [keep]
    try:
        yield lambda: kept.__setitem__(0, True)
    finally:
        if new and not kept[0]:
            shutil.rmtree(path, ignore_errors=True)


def _remove_empty(folder: Path) -> None:
    """Remove the working folders of engines that left nothing there."""
    for path in (*folder.glob("*"), folder):
        with contextlib.suppress(OSError):
            path.rmdir()


def _write_settings(inputs: Inputs, folder: RunFolder) -> None:
    """Keep what the run was asked for beside its results."""
    target = folder.results / "settings"
    for name in (
        "control.in",
        "geometry.in",
        "mace_settings.yaml",
        "active_learning_settings.yaml",
    ):
        source = folder.root / name
        if source.exists():
            write_text(target / "as_given" / name, source.read_text(encoding="utf-8"))
    for name, text in resolved_yaml(inputs).items():
        write_text(target / "resolved" / name, text)


def _report(goal: Goal, state: State, folder: RunFolder, peaks: list[float]) -> None:
    """Tell the user what there is now."""
    from rich.console import Console

    from fhi_al.histories import write_histories
    from fhi_al.summary import print_summary, save_summary, summarise

    if goal == "atomic_energies":
        assert state.atomic_energies is not None
        text = "ARCHITECTURE:\n  atomic_energies:\n" + "".join(
            f"    {element}: {energy:.8f}\n" for element, energy in state.atomic_energies.items()
        )
        write_text(folder.results / "atomic_energies.yaml", text)
        log.info("Energies of the isolated atoms in eV, for mace_settings.yaml:\n\n%s", text)
        return
    records, _ = read_journal(folder.journal)
    analysis = folder.inputs.al.active_learning.analysis
    write_histories(folder.results, records, analysis=analysis)
    summary = summarise(records, peaks)
    if peaks or not (folder.results / "summary.json").exists():
        # A command that finds the run finished knows less: nothing of memory.
        save_summary(summary, folder.results)
    # Plain text: mpirun gives rank 0 a terminal of its own, even where the user's is a file.
    print_summary(summary, Console(highlight=False, force_terminal=False))
