"""Who works where: what each rank needs for its roles, made before anything starts."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhi_al.errors import FhiAlError, InputError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.handlers.calculate import ReferenceWorker
from fhi_al.mpi.messages import Look, gather
from fhi_al.mpi.world import claim_threads, local_rank
from fhi_al.record.outcome import Place, Worker
from fhi_al.reference.black_box import BlackBox
from fhi_al.reference.engine import engine_class
from fhi_al.reference.rescue import RescuingEngine
from fhi_al.settings import Inputs
from fhi_al.workers.channels import Channel, InlineChannel, MpiChannel
from fhi_al.workers.layout import Layout, plan_layout, visible_gpus
from fhi_al.workers.ml_worker import MlWorker
from fhi_al.workers.placement import place_of
from fhi_al.workers.serve import assist, serve

_QUEUE_DEPTH = 2


@dataclass(frozen=True)
class RankPlan:
    """What rank 0 has found out, for all ranks.

    Attributes:
        inputs: what the user asked for.
        layout: the split of the ranks.
        engine_digest: of the reference engine.
        run: name of the run.
        resources: what the work needs besides the committee; see `procedures.procedure.Stage`.
    """

    inputs: Inputs
    layout: Layout
    engine_digest: str
    run: str
    resources: frozenset[str] = frozenset()


def layout_for(inputs: Inputs, size: int) -> Layout:
    """Split ranks as the settings, the engine and this node's GPUs have it.

    Args:
        inputs: what the user asked for.
        size: ranks in all.

    Raises:
        InputError: the ranks don't suffice for what is asked.
    """
    parallel = inputs.al.parallel
    return plan_layout(
        size,
        parallel.ml_ranks,
        parallel.reference_groups,
        0 if inputs.mace.misc.device == "cpu" else visible_gpus(),
        parallel_engine=inputs.reference.parallel,
        most_ml=inputs.al.active_learning.ensemble_size,
    )


class Crew:
    """The workers of one rank. Collective over all ranks: if one can't be made, all fail.

    Args:
        plan: of the run.
        folder: of the run.
        comm: of all ranks, or None where there is one.

    Attributes:
        places: of all ranks, in their order.

    Raises:
        InputError: with the problems of all ranks.
    """

    def __init__(self, plan: RankPlan, folder: RunFolder, comm: Any) -> None:
        self.places: list[Place] = []
        self._plan = plan
        self._folder = folder
        self._comm = comm
        self._rank = comm.rank if comm is not None else 0
        self._group: Any = None
        self._ml_comm: Any = None
        self._engine: RescuingEngine | None = None
        self._ml: MlWorker | None = None
        layout = plan.layout
        number = layout.group_of(self._rank)
        if layout.size > 1:
            own = comm.Split(0 if number is None else number + 1, self._rank)
            self._group, self._ml_comm = (None, own) if number is None else (own, None)
        threads = claim_threads(comm)
        problems: list[str] = []
        known: dict[str, float] | None = None
        device = "cpu"
        try:
            if number is not None:
                self._engine = self._make_engine(number)
            if self._engine is not None:
                device = self._engine.device
                if "atoms" in plan.resources:
                    known = self._engine.atomic_energies()
        except FhiAlError as error:
            # Not to be raised here: the other ranks wait for this one's answer.
            problems += _told(error)
        try:
            if self._rank in layout.ml:
                device = choose_device(plan.inputs, local_rank(self._ml_comm))
                _check_cueq(plan.inputs, device)
                self._ml = MlWorker(folder, device, self._ml_comm)
                if "foundation" in plan.resources and self._rank == 0:
                    self._ml.prepare_foundation()
        except FhiAlError as error:
            problems += _told(error)
        parallel_engine = plan.inputs.reference.parallel
        place = place_of(
            layout, self._rank, parallel_engine=parallel_engine, device=device, threads=threads
        )
        answers = gather(comm, (problems, known, place))
        # The ranks of a group report the same problem: once is enough.
        if everything := list(dict.fromkeys(p for ranks, *_ in answers for p in ranks)):
            raise InputError(everything)
        self.places = [place for *_, place in answers]
        if self._ml is not None:
            self._ml.atomic_energies = next((known for _, known, _ in answers if known), {})

    @property
    def atomic_energies(self) -> Mapping[str, float]:
        """Element -> eV on an ML rank, where the engine brings them along and they are wanted."""
        return self._ml.atomic_energies if self._ml is not None else {}

    def work(self, look: Look) -> None:
        """Do what the controller says, on a rank that is not the controller, until told to stop.

        Args:
            look: called between two pieces of work, and while waiting.
        """
        if self._ml is not None:
            serve(self._ml_comm, Worker("ML", self._rank), self._ml, look)
        elif self._engine is not None and self._group.rank == 0:
            number = self._plan.layout.group_of(self._rank)
            assert number is not None
            group = self._group if self._engine.parallel else None
            runner = ReferenceWorker(self._folder, self._engine, group)
            serve(self._comm, Worker("reference", number), runner, look)
        elif self._engine is not None:
            assist(self._engine, self._group, look)

    def channels(self, *, asynchronous: bool) -> list[Channel]:
        """The controller's ways to all workers.

        Args:
            asynchronous: whether a reference group may have an effect waiting beside that in work.
        """
        assert self._ml is not None
        channels: list[Channel] = []
        if self._engine is not None:
            runner = ReferenceWorker(self._folder, self._engine, None)
            channels.append(InlineChannel(Worker("reference", 0), runner))
        else:
            depth = _QUEUE_DEPTH if asynchronous else 1
            channels += [
                MpiChannel(Worker("reference", number), self._comm, ranks[0], depth=depth)
                for number, ranks in enumerate(self._plan.layout.groups)
            ]
        channels.append(InlineChannel(Worker("ML", 0), self._ml))
        return channels

    def _make_engine(self, number: int) -> RescuingEngine | None:
        inputs = self._plan.inputs
        parallel = inputs.reference.parallel
        if self._group is not None and self._group.rank > 0 and not parallel:
            return None
        directory = self._folder.reference / f"group{number}"
        directory.mkdir(parents=True, exist_ok=True)
        return RescuingEngine(
            engine_class(inputs.reference.engine),
            inputs.reference,
            inputs.control,
            inputs.elements,
            self._group if parallel else None,
            directory,
            inputs.al.active_learning.max_net_force_eV_per_A,
            BlackBox(self._folder.deaths, f"rank{self._rank}"),
        )


def _told(error: FhiAlError) -> list[str]:
    return error.problems if isinstance(error, InputError) else [str(error)]


def choose_device(inputs: Inputs, local: int) -> str:
    """Choose the device of an ML rank, and make it the current one.

    Args:
        inputs: with the settings.
        local: the rank's place among those of its node.

    Returns:
        Its name for torch.

    Raises:
        InputError: there is no GPU, but one is asked for.
    """
    wanted = inputs.mace.misc.device
    if wanted == "cpu" or (wanted == "auto" and not visible_gpus()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        device = f"cuda:{local % torch.cuda.device_count()}"
        # Libraries that only say `cuda` mean this one.
        torch.cuda.set_device(device)
        return device
    if wanted == "auto":
        return "cpu"
    raise InputError(
        f"mace_settings.yaml: MISC.device: {wanted} is asked for, but torch finds no such device "
        f"on {socket.gethostname()}; set it to cpu or auto, or run where there is a GPU"
    )


def _check_cueq(inputs: Inputs, device: str) -> None:
    if not inputs.mace.misc.enable_cueq:
        return
    from fhi_al.ensemble import cueq

    where = "mace_settings.yaml: MISC.enable_cueq: true"
    if device == "cpu":
        raise InputError(f"{where} has a use on a GPU only, and the models run on a CPU")
    if not cueq.installed():
        raise InputError(f"{where} needs cuEquivariance: {cueq.INSTALL}")
