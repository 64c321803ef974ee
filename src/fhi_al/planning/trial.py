"""The parts of a run, tried out for real: how long each takes on this machine."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fhi_al.atoms.structure import Label, structure_key
from fhi_al.errors import FhiAlError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.md.perturb import perturbed
from fhi_al.mpi.messages import Patience
from fhi_al.planning.costs import Rates
from fhi_al.record.effects import Advance, Calculate, Import, Sample, Train
from fhi_al.record.events import ALL_MEMBERS, Entry, Failed, Labelled, LabelRejected
from fhi_al.run.controller import WorkerError
from fhi_al.workers.channels import Channel

if TYPE_CHECKING:
    from fhi_al.ensemble.members import Committee
    from fhi_al.md.driver import Driver
    from fhi_al.settings import Inputs

log = logging.getLogger(__name__)

T = TypeVar("T")

_SHORT_S = 20.0
"""A calculation that takes longer is not repeated."""
_COMPILING_S = 180.0
"""Longest wait for compiled code."""
_LOOK_S = 3.0
"""Between two looks at whether it is there; the processor is left to the compiler."""
_EPOCHS = 1, 4
_STEPS = 6, 24
_STEPS_COMPILED = 30, 150


@dataclass(frozen=True)
class LabelTrial:
    """A calculation of the reference.

    Attributes:
        first_s: the first of a group, in seconds, the start of the library included.
        label_s: a later one, where there was one, else the first.
        label: of the first geometry, slightly distorted.
    """

    first_s: float
    label_s: float
    label: Label


@dataclass(frozen=True)
class ModelTrial:
    """Training and molecular dynamics.

    Attributes:
        eager: rates of the models themselves.
        compiled: rates of compiled code, or None: there is none.
        n_parameters: of one model.
        entries: labels that the user brings.
        weights: whether the user brings models, too.
    """

    eager: Rates
    compiled: Rates | None
    n_parameters: int
    entries: tuple[Entry, ...]
    weights: bool


def try_reference(
    folder: RunFolder, channels: Sequence[Channel], failures: Callable[[], Sequence[Failed]]
) -> LabelTrial:
    """Compute a structure with each reference group at the same time, and another if it is quick.

    Args:
        folder: in which nothing is kept.
        channels: to all workers.
        failures: what ranks that broke down have told since the last call.

    Raises:
        FhiAlError: the reference has no result for the geometry.
        WorkerError: a rank broke down.
    """
    groups = [channel for channel in channels if channel.worker.role == "reference"]
    rounds: list[list[Labelled]] = []
    for number in range(3):
        rounds.append(_label(folder, groups, number * len(groups), failures))
        if max(event.seconds for event in rounds[-1]) > _SHORT_S:
            break
    later = [event.seconds for events in rounds[1:] for event in events]
    first = [event.seconds for event in rounds[0]]
    return LabelTrial(
        first_s=float(np.mean(first)),
        label_s=float(np.mean(later or first)),
        label=folder.labels.get(rounds[0][0].key),
    )


def _label(
    folder: RunFolder,
    groups: Sequence[Channel],
    first: int,
    failures: Callable[[], Sequence[Failed]],
) -> list[Labelled]:
    for index, group in enumerate(groups, start=first):
        structure = _shaken(folder, index)
        key = folder.structures.put(structure, folder.engine_digest)
        group.submit(Calculate(f"label-{key}", key, "initial", composition=structure.composition))
    events: list[Labelled] = []
    patience = Patience()
    while len(events) < len(groups):
        for failed in failures():
            raise WorkerError(failed)
        found = [event for group in groups for event in group.poll()]
        for event in found:
            if isinstance(event, LabelRejected):
                raise FhiAlError(
                    "the reference has no result for geometry.in with its atoms displaced by "
                    f"0.02 Å: {event.reason}. A run would begin with failures like this: look at "
                    "control.in, the REFERENCE settings, charge and spin"
                )
            assert isinstance(event, Labelled)
            events.append(event)
        if not found and not any(group.busy_here for group in groups):
            patience.wait()
    return events


def _shaken(folder: RunFolder, index: int) -> Any:
    structure = folder.inputs.geometries[index % len(folder.inputs.geometries)].structure
    return perturbed(structure, 1, index, 0.02, 0.002)


def brings_data(inputs: Inputs) -> bool:
    """Whether the user brings labels, or models, in place of an initial dataset."""
    settings = inputs.al.active_learning
    return settings.initial_data is not None or settings.initial_models is not None


def try_sampling(folder: RunFolder, driver: Driver) -> float:
    """Seconds of an MD step of all geometries with the pretrained model."""
    from fhi_al.handlers.dynamics import sample

    count = len(folder.inputs.geometries)
    steps = folder.inputs.al.active_learning.skip_step_initial
    seconds = []
    walkers = None
    for number in range(2):  # the first time is slower
        effect = Sample(f"sample-{number}", "foundation", count, number * count, walkers)
        sampled, took = _timed(sample(effect, folder, driver))
        walkers = sampled.walkers
        seconds.append(took / steps)
    return seconds[-1]


def try_models(
    folder: RunFolder, device: str, label: Label, *, walkers: int, compiles: bool
) -> ModelTrial:
    """Train a committee and move walkers with it, on this rank alone.

    Args:
        folder: in which nothing is kept.
        device: where the models live.
        label: made to be many, as only the time counts.
        walkers: that an ML rank moves.
        compiles: whether to wait for compiled code.
    """
    entries, weights, brought = _data(folder, label)
    trainer = _Trainer(folder, device, entries, weights)
    trainer.train(1)  # makes the models
    committee = trainer.committee
    assert committee is not None
    train = trainer.rates()
    mover = _Mover(folder, device, committee, walkers)
    eager = Rates(*mover.rates(_STEPS), *train)
    compiled = None
    if compiles:
        log.info("Compiling code, to see how fast it is; --quick leaves this out ...")
        if _await_code(trainer, mover):
            compiled = Rates(*mover.rates(_STEPS_COMPILED), *trainer.rates())
    model = committee.members[0].model
    return ModelTrial(
        eager=eager,
        compiled=compiled,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        entries=brought,
        weights=weights is not None,
    )


def _data(folder: RunFolder, label: Label) -> tuple[list[Entry], str | None, tuple[Entry, ...]]:
    """A training batch and a validation batch; models to begin with, and all labels, if brought."""
    brought: tuple[Entry, ...] = ()
    weights = None
    if brings_data(folder.inputs):
        from fhi_al.handlers.imports import import_data

        imported = import_data(Import("import"), folder)
        brought, weights = imported.entries, imported.weights
    training = folder.inputs.mace.training
    entries = []
    for index in range(training.batch_size + training.valid_batch_size):
        structure = perturbed(label.structure, 2, index, 0.02, 0.002)
        key = structure_key(structure, folder.engine_digest)
        # Its energy and forces are not those of this structure: good enough to be timed.
        folder.labels.put(replace(label, structure=structure, key=key), folder.engine_digest)
        split = "train" if index < training.batch_size else "valid"
        entries.append(Entry(key, ALL_MEMBERS, split))  # type: ignore[arg-type]
    return entries, weights, brought


class _Trainer:
    """Trains a committee on one batch, again and again."""

    def __init__(
        self, folder: RunFolder, device: str, entries: Sequence[Entry], weights: str | None
    ) -> None:
        self._folder, self._device, self._entries = folder, device, entries
        self._weights = weights
        self._count = 0
        self.committee: Committee | None = None
        self.fast: Any = None

    def train(self, epochs: int) -> float:
        """Seconds of one `Train` with a validation at its end."""
        from fhi_al.handlers.train import train

        effect = Train(
            id=f"train-{self._count}",
            stage="active_learning",
            weights=self._weights,
            members=tuple(range(self._folder.inputs.al.active_learning.ensemble_size)),
            epochs=epochs,
            entries=self._entries,
        )
        self._count += 1
        (self.committee, trained), seconds = _timed(
            train(effect, self._folder, self.committee, self._device, None, self.fast)
        )
        self._weights = trained.weights
        return seconds

    def rates(self) -> tuple[float, float, float]:
        """See the last three of `Rates`."""
        assert self.committee is not None
        few, many = _EPOCHS
        members = len(self.committee.members)
        self.train(1)
        short, long = self.train(few), self.train(many)
        step = max(long - short, 1e-6) / ((many - few) * members)
        # A validation needs forces, a training step also their gradient.
        valid = step / 3
        return max(short - few * members * step - members * valid, 0.0), step, valid


class _Mover:
    """Moves walkers with a committee."""

    def __init__(self, folder: RunFolder, device: str, committee: Committee, walkers: int) -> None:
        self._folder, self._device = folder, device
        self._committee, self.walkers = committee, walkers
        self._count = 0
        self.use(None)

    def use(self, fast: Any) -> None:
        """Move with compiled code where this has some."""
        from fhi_al.ensemble.predict import CommitteePredictor

        committee = self._committee
        inputs = self._folder.inputs
        self.driver = CommitteePredictor(
            committee.models(),
            self._device,
            committee.dtype,
            one_by_one=inputs.deterministic,
            fast=fast,
        )

    def move(self, steps: int, walkers: int) -> tuple[float, int]:
        """Seconds of one `Advance`, with new weights at its beginning, and the steps made."""
        from fhi_al.handlers.dynamics import advance

        self.driver.load(self._committee.models())
        effect = Advance(
            id=f"advance-{self._count}",
            walkers=None,
            trajectories=tuple(range(walkers)),
            resets=(),
            weights="",
            histories=(),
            checks_left=(1_000_000,) * walkers,
            steps_left=(steps,) * walkers,
            audits_due=(-1,) * walkers,
        )
        self._count += 1
        advanced, seconds = _timed(advance(effect, self._folder, self.driver))
        return seconds, max(*advanced.steps, 1)

    def rates(self, steps: tuple[int, int]) -> tuple[float, float, float]:
        """See the first three of `Rates`."""
        self.move(steps[0], self.walkers)
        overhead, many = self._line(steps, self.walkers)
        if self.walkers == 1:
            return overhead, 0.0, many
        _, one = self._line(steps, 1)
        # More walkers can't be cheaper, nor cost more than each for itself.
        each = min(max((many - one) / (self.walkers - 1), 0.0), many / self.walkers)
        return overhead, many - self.walkers * each, each

    def _line(self, steps: tuple[int, int], walkers: int) -> tuple[float, float]:
        """Seconds of an `Advance` without steps, and of each step."""
        (short, few), (long, many) = (self.move(count, walkers) for count in steps)
        each = (long - short) / (many - few) if many > few else long / many
        each = max(each, 1e-6)
        return max(short - few * each, 0.0), each


def _await_code(trainer: _Trainer, mover: _Mover) -> bool:
    """Wait until all code is compiled that will be; whether it was in time."""
    from fhi_al.ensemble.fast_gradients import FastGradients
    from fhi_al.fast.forces import FastForces

    trainer.fast, fast = FastGradients(0.0), FastForces(mover.walkers, 0.0)
    mover.use(fast)
    deadline = time.monotonic() + _COMPILING_S
    while time.monotonic() < deadline:
        trainer.train(1)
        mover.move(2, mover.walkers)
        if not (trainer.fast.awaits_code or fast.awaits_code):
            # What there is from now on; nothing else is to be compiled while it is timed.
            mover.use(FastForces(mover.walkers, math.inf))
            return True
        time.sleep(_LOOK_S)
    return False


def _timed(work: Generator[None, None, T]) -> tuple[T, float]:
    """Do work to its end: what it returns, and how many seconds it took."""
    began = time.perf_counter()
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value, time.perf_counter() - began
