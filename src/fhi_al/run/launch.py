"""From a command to a running controller: inputs, roles, workers, journal."""

from __future__ import annotations

import gc
import logging
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fhi_al import __version__
from fhi_al.errors import FhiAlError, JournalError, StoppedError
from fhi_al.folder.artefacts import missing_artefacts
from fhi_al.folder.housekeeping import Housekeeper
from fhi_al.folder.lock import FolderLock
from fhi_al.folder.run_folder import RunFolder, no_trace_of_failure, remove_empty
from fhi_al.monitor.narrator import Narrator, StageLog, start_logging
from fhi_al.mpi.messages import gather, share
from fhi_al.mpi.world import abort, alone_for_ase, peak_memory_mb
from fhi_al.procedures.run import needed_resources, stage_of
from fhi_al.procedures.state import State
from fhi_al.record.events import Closed, Retried
from fhi_al.record.journal import Journal
from fhi_al.record.outcome import Place, since_start
from fhi_al.reference.black_box import forget_deaths, read_deaths
from fhi_al.reference.engine import engine_class
from fhi_al.run.closing import describe_stop, keep_traceback
from fhi_al.run.controller import Controller, Listener
from fhi_al.run.on_all_ranks import on_all_ranks
from fhi_al.run.opening import Joined, join_run
from fhi_al.run.stopping import Forwarder, Signals, StopRequests
from fhi_al.run.task import Task
from fhi_al.run.walltime import Walltime, end_of_job
from fhi_al.run.watch import Watch
from fhi_al.settings import load_inputs
from fhi_al.workers.channels import Channel
from fhi_al.workers.crew import Crew, RankPlan
from fhi_al.workers.placement import describe_places
from fhi_al.workers.serve import describe_failure, failures, report_failure

log = logging.getLogger(__name__)


def launch(
    task: Task, directory: Path, walltime: float | None = None, *, retry: bool = False
) -> int:
    """Run a command on all ranks.

    Args:
        task: what it is for.
        directory: with the input files.
        walltime: seconds from now within which the command is to end, or None.
        retry: whether to try rejected structures again.

    Returns:
        The exit code of this rank.
    """
    started = time.time()
    signals = Signals()
    signals.listen()

    def work(comm: Any) -> int:
        end, source = end_of_job(walltime, started)
        end_of_run = Walltime(end, started, source)
        run = _Launch(task, directory, comm, signals, end_of_run, retry)
        try:
            return run.run()
        finally:
            run.close()

    return on_all_ranks(work, partial(keep_traceback, directory))


class _Launch:
    """One command on one rank."""

    def __init__(
        self,
        task: Task,
        directory: Path,
        comm: Any,
        signals: Signals,
        walltime: Walltime,
        retry: bool,
    ) -> None:
        self._task = task
        self._retry = retry
        self._directory = directory
        self._comm = comm
        self._signals = signals
        self._walltime = walltime
        self._lock: FolderLock | None = None
        self._watch: Watch | None = None
        self._rank = comm.rank if comm is not None else 0
        self._journal: Journal | None = None
        self._joined: Joined | None = None
        self._state: State | None = None

    def run(self) -> int:
        """Start everything, work, and end."""
        plan = self._agree_on_plan()
        if plan is None:
            return 0
        folder = RunFolder(plan.inputs, plan.engine_digest, plan.run)
        alone_for_ase()
        with no_trace_of_failure(folder.reference) as keep:
            crew = Crew(plan, folder, self._comm)
            keep()
        ended: FhiAlError | None = None
        if self._rank == 0:
            ended = self._control(plan, folder, crew)
        else:
            try:
                crew.work(Forwarder(self._signals, self._comm))
            except Exception as error:
                report_failure(self._comm, describe_failure(self._rank, error))
        remove_empty(folder.reference)
        peaks = gather(self._comm, peak_memory_mb())
        if self._rank == 0:
            # Alone: a launcher ends the job, this rank's last words included, when one fails.
            if ended is not None:
                raise ended
            assert self._state is not None
            self._task.report(folder, self._state, peaks)
        return 0

    def close(self) -> None:
        """Let another job work in this folder."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _agree_on_plan(self) -> RankPlan | None:
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
        plan: RankPlan | None = outcome
        return plan

    def _plan(self) -> RankPlan | None:
        inputs = self._task.inputs(load_inputs(self._directory))
        settings = inputs.reference
        digest = engine_class(settings.engine).digest(settings, inputs.control, inputs.elements)
        layout = self._task.layout(inputs, self._comm.size if self._comm is not None else 1)
        folder = RunFolder(inputs, digest)
        folder.check_writable()
        self._lock = FolderLock(folder.restart)
        self._journal = Journal(self._task.journal(folder))
        self._joined = join_run(self._journal, self._task.procedure.name, inputs, digest)
        self._state = self._joined.state
        # A long journal stays in memory: nothing for Python's collector to look through again.
        gc.freeze()
        folder = RunFolder(inputs, digest, self._joined.opened.run)
        self._watch = Watch(
            self._beat,
            self._give_up,
            end=self._walltime.end and self._walltime.end - self._walltime.margin / 3,
            after_signal=not inputs.al.misc.finish_reference,
        )
        self._watch.start()
        if self._task.is_over(self._state, retry=self._retry):
            start_logging(inputs.mace.misc.log_level)
            log.info("This run is finished already; nothing to do.")
            self._task.report(folder, self._state, [])
            return None
        if missing := missing_artefacts(self._state, folder.artefacts):
            more = f", and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise JournalError(
                f"{folder.journal}: files that it names are missing ("
                f"{', '.join(map(str, missing[:3]))}{more}), or belong to another journal. Put "
                f"them back, or see what `FHI_AL-journal check {folder.root}` finds, and go back "
                "to a state that is complete with `FHI_AL-journal repair`"
            )
        return RankPlan(
            inputs,
            layout,
            digest,
            folder.run,
            resources=needed_resources(self._state),
        )

    def _control(self, plan: RankPlan, folder: RunFolder, crew: Crew) -> FhiAlError | None:
        """Drive the run to its goal, or say why it ended before; the other ranks are let go."""
        assert self._state is not None
        channels = crew.channels(asynchronous=self._state.rules.asynchronous)
        ended: FhiAlError | None = None
        try:
            self._drive(plan, folder, crew.places, channels)
        except FhiAlError as error:
            ended = error
        if isinstance(ended, StoppedError):
            ended = StoppedError(describe_stop(str(ended), self._state, plan.layout.size))
        if ended is not None and plan.layout.size > 1 and not all(c.idle for c in channels):
            # A worker may be busy for hours with what nobody needs any more.
            log.error("%s", ended)
            self.close()
            abort(self._comm, ended.exit_code)
        for channel in channels:
            channel.close()
        return ended

    def _drive(
        self,
        plan: RankPlan,
        folder: RunFolder,
        places: Sequence[Place],
        channels: Sequence[Channel],
    ) -> None:
        assert self._state is not None
        assert self._journal is not None
        assert self._joined is not None
        assert self._lock is not None
        from fhi_al.monitor.live import RunView  # with rich, which the other ranks have no use for

        stage_log = StageLog(folder.logs)
        terminal = start_logging(plan.inputs.mace.misc.log_level, stage_log)
        if (stage := stage_of(self._state)) is not None:
            stage_log.turn_to(stage.log_file)
        self._task.begin(folder)
        log.info("FHI_AL %s on %s, %s", __version__, socket.gethostname(), plan.layout.describe())
        log.info("Ranks:\n%s", describe_places(places))
        for warning in plan.inputs.warnings:
            log.warning("%s", warning)
        walltime = self._walltime
        if walltime.end is not None:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(walltime.end))
            log.info("The command will stop by itself before %s (%s)", when, walltime.source)
            walltime.learn(self._journal)
        listeners: list[Listener] = [
            Narrator(self._state, stage_log),
            Housekeeper(folder, self._journal),
            *self._task.listeners(folder, self._state),
        ]
        for change in self._joined.changes:
            log.info("Changed since the last command: %s", change)
        opened = self._joined.opened
        startup_s = round(since_start(), 2)
        opened = replace(opened, time=time.time(), startup_s=startup_s, places=tuple(places))
        self._journal.append(opened)
        name, progress = plan.inputs.mace.general.name_exp, self._joined.progress
        view = RunView(name, self._lock.holder, self._state, progress, terminal)
        view(self._state, opened)
        listeners.append(view)
        controller = Controller(
            self._state,
            self._journal,
            channels,
            listeners,
            stop=StopRequests(self._signals, self._comm, walltime.is_up),
            walltime=walltime,
            finish_reference=plan.inputs.al.misc.finish_reference,
            failures=partial(failures, self._comm),
            look=view.look,
        )
        try:
            controller.record(*read_deaths(folder.deaths))
            forget_deaths(folder.deaths)
            if self._retry and controller.state.books.rejected:
                controller.record(Retried(tuple(controller.state.books.rejected)))
            controller.record(*self._task.first_events(folder, controller.state))
            with view:
                controller.run()
        finally:
            self._journal.close()
            self._state = controller.state

    def _beat(self) -> None:
        """Show a sign of life, every few seconds; in the thread of the watch."""
        assert self._lock is not None
        if not self._lock.beat():
            print(
                "Another job has taken over this folder, as this one stood still for minutes: "
                "this one ends.",
                file=sys.stderr,
                flush=True,
            )
            abort(self._comm, 1)

    def _give_up(self, reason: str) -> None:
        """End though the main thread can't; in the thread of the watch."""
        assert self._journal is not None
        assert self._lock is not None
        assert self._state is not None
        self._journal.append_last(Closed(reason, time.time()))
        size = self._comm.size if self._comm is not None else 1
        # Not to standard output, which is the library's meanwhile.
        print(describe_stop(reason, self._state, size), file=sys.stderr, flush=True)
        self._lock.release()
        abort(self._comm, StoppedError.exit_code)
