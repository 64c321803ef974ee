"""`FHI_AL-plan` on all ranks: check everything, try the parts, and say what a run would take."""

from __future__ import annotations

import logging
import math
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fhi_al.errors import FhiAlError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.mpi.messages import gather, share
from fhi_al.mpi.world import abort, alone_for_ase, peak_memory_mb
from fhi_al.planning.costs import Costs, WorkSizes
from fhi_al.planning.estimate import COMPILED_AFTER_S, COMPILED_SPEEDUP, Trial, print_plan
from fhi_al.planning.trial import brings_data, try_models, try_reference, try_sampling
from fhi_al.procedures.samplings import sampling
from fhi_al.record.events import Goal
from fhi_al.record.outcome import since_start
from fhi_al.reference.engine import engine_class
from fhi_al.reference.isolated import isolated_atoms
from fhi_al.run.on_all_ranks import on_all_ranks
from fhi_al.run.opening import opening
from fhi_al.settings import Inputs, load_inputs
from fhi_al.workers.channels import Channel
from fhi_al.workers.crew import Crew, RankPlan, layout_for
from fhi_al.workers.serve import describe_failure, failures, report_failure

if TYPE_CHECKING:
    from fhi_al.md.driver import Driver

log = logging.getLogger(__name__)


def dry_run(directory: Path, *, quick: bool) -> int:
    """Plan a run. Collective over all ranks; nothing is written in its folder.

    Args:
        directory: with the input files.
        quick: whether to go without compiled code.

    Returns:
        The exit code of this rank.
    """

    def work(comm: Any) -> int:
        if comm is None or comm.rank == 0:
            # What the parts tell of their work is for the log of a run.
            for part in ("ensemble", "md"):
                logging.getLogger(f"fhi_al.{part}").setLevel(logging.WARNING)
        _DryRun(directory, comm, quick).run()
        return 0

    # No file is left: there may be no run here yet.
    return on_all_ranks(work, lambda text: f"\n{text}")


class _DryRun:
    """One plan on one rank."""

    def __init__(self, directory: Path, comm: Any, quick: bool) -> None:
        self._directory = directory
        self._comm = comm
        self._quick = quick
        self._rank = comm.rank if comm is not None else 0
        self._inputs: Inputs | None = None

    def run(self) -> None:
        """Check, try, tell."""
        hosts = gather(self._comm, socket.gethostname())
        with self._scratch(hosts) as scratch:
            plan = self._agree(scratch)
            folder = RunFolder(plan.inputs, plan.engine_digest, plan.run)
            alone_for_ase()
            crew = Crew(plan, folder, self._comm)
            startup_s = since_start()
            outcome: Any = None
            if self._rank == 0:
                channels = crew.channels(asynchronous=True)
                try:
                    outcome = self._try(plan, folder, crew, channels, startup_s)
                except FhiAlError as error:
                    outcome = error
                if not all(channel.idle for channel in channels):
                    # Another group may compute for hours what nobody needs any more.
                    log.error("%s", outcome)
                    shutil.rmtree(scratch, ignore_errors=True)
                    abort(self._comm, 1)
                for channel in channels:
                    channel.close()
            else:
                try:
                    crew.work(lambda: None)
                except Exception as error:
                    report_failure(self._comm, describe_failure(self._rank, error))
            peaks = gather(self._comm, peak_memory_mb())
            outcome = share(self._comm, outcome)
            if isinstance(outcome, FhiAlError):
                raise outcome
            if self._rank == 0:
                print_plan(replace(outcome, peak_memory_mb=tuple(peaks)), self._directory)

    @contextmanager
    def _scratch(self, hosts: list[str]) -> Iterator[Path]:
        """A folder that all ranks see, and that is gone afterwards."""
        made = None
        if self._rank == 0:
            # The temporary folder of one node is not that of another.
            shared = None if len(set(hosts)) == 1 else self._directory.absolute().parent
            made = tempfile.mkdtemp(prefix="fhi_al-plan-", dir=shared)
        scratch = Path(share(self._comm, made))
        try:
            yield scratch
        finally:
            if self._rank == 0:
                shutil.rmtree(scratch, ignore_errors=True)

    def _agree(self, scratch: Path) -> RankPlan:
        """Rank 0 reads and checks; all ranks get the plan, or raise the same error."""
        outcome: Any = None
        if self._rank == 0:
            try:
                outcome = self._plan(scratch)
            except FhiAlError as error:
                outcome = error
        outcome = share(self._comm, outcome)
        if isinstance(outcome, FhiAlError):
            raise outcome
        plan: RankPlan = outcome
        return plan

    def _plan(self, scratch: Path) -> RankPlan:
        inputs = load_inputs(self._directory)
        engine = engine_class(inputs.reference.engine)
        digest = engine.digest(inputs.reference, inputs.control, inputs.elements)
        layout = layout_for(inputs, self._comm.size if self._comm is not None else 1)
        RunFolder(inputs, digest).check_writable()
        for warning in inputs.warnings:
            log.warning("%s", warning)
        self._inputs = inputs
        return RankPlan(
            _elsewhere(inputs, scratch),
            layout,
            digest,
            "plan",
            # A pretrained model for sampling is loaded here.
            frozenset({"atoms"} if inputs.mace.architecture.atomic_energies == "auto" else ()),
        )

    def _try(
        self,
        plan: RankPlan,
        folder: RunFolder,
        crew: Crew,
        channels: Sequence[Channel],
        startup_s: float,
    ) -> Trial:
        assert self._inputs is not None
        inputs, layout = self._inputs, plan.layout
        settings = inputs.al.active_learning
        device = crew.places[0].device
        compiles = device == "cpu" and not inputs.eager
        sampler = self._sampler(plan, device)
        log.info("All input files are fine. Trying the reference ...")
        reference = try_reference(folder, channels, partial(failures, self._comm))
        log.info("Trying molecular dynamics and training ...")
        sample_step_s = try_sampling(folder, sampler) if sampler is not None else 0.0
        models = try_models(
            folder,
            device,
            reference.label,
            walkers=math.ceil(settings.num_trajectories / len(layout.ml)),
            compiles=compiles and not self._quick,
        )
        compiled = models.compiled
        if compiles and compiled is None:
            compiled = models.eager.times(1 / COMPILED_SPEEDUP)
        costs = Costs(
            label_s=reference.label_s,
            label_ranks=len(layout.groups[0]),
            parallel_engine=inputs.reference.parallel,
            eager=models.eager,
            compiled=compiled,
            # Code is made for sizes of batches: the run may have to compile its own.
            compiled_after_s=COMPILED_AFTER_S,
            sample_step_s=sample_step_s,
        )
        shape = WorkSizes(
            batch_size=inputs.mace.training.batch_size,
            valid_batch_size=inputs.mace.training.valid_batch_size,
            eval_interval=settings.valid_skip,
            eval_interval_converging=inputs.convergence.eval_interval,
            isolated=0 if crew.atomic_energies else len(isolated_atoms(inputs.elements)),
            entries=models.entries,
            weights=models.weights,
        )
        goal: Goal = "active_learning" if brings_data(inputs) else "run"
        return Trial(
            opened=opening(goal, inputs, plan.engine_digest, plan.run),
            layout=layout,
            places=tuple(crew.places),
            reference=reference,
            models=models,
            costs=costs,
            shape=shape,
            startup_s=startup_s,
        )

    def _sampler(self, plan: RankPlan, device: str) -> Driver | None:
        """The pretrained model that samples the initial structures, if one does.

        Raises:
            InputError: it isn't there and can't be downloaded.
        """
        named = plan.inputs.al.active_learning.initial_sampling
        if brings_data(plan.inputs) or sampling(named).method != "foundation":
            return None
        from fhi_al.handlers.foundation import foundation_driver

        return foundation_driver(plan.inputs, device)


def _elsewhere(inputs: Inputs, scratch: Path) -> Inputs:
    """The same settings with all that is written in another folder.

    Nothing is chosen, and pieces of work are short, so that they can be timed.
    """
    general = inputs.mace.general.model_copy(
        update={
            "checkpoints_dir": scratch / "checkpoints",
            "model_dir": scratch / "model",
            "results_dir": scratch / "results",
            "log_dir": scratch,
        }
    )
    settings = inputs.al.active_learning
    active = settings.model_copy(
        update={
            "uncertainty_warmup": 1_000_000_000,
            "valid_skip": 1_000_000,
            "skip_step_initial": min(settings.skip_step_initial, 10),
        }
    )
    return replace(
        inputs,
        directory=scratch,
        mace=replace(inputs.mace, general=general),
        al=replace(inputs.al, active_learning=active),
    )
