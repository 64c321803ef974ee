"""The ML rank's worker: the committee in memory, and everything that is done with it."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fhi_al.folder.run_folder import RunFolder
from fhi_al.handlers.worker import Slices, handled
from fhi_al.mpi.messages import Patience
from fhi_al.record.effects import (
    Advance,
    Effect,
    Evaluate,
    Export,
    Import,
    Isolate,
    ReferenceStep,
    Sample,
    Select,
    Train,
)
from fhi_al.record.events import Advanced, Event, Isolated, Trained
from fhi_al.record.outcome import Outcome, Work, Worker
from fhi_al.workers.channels import Channel, MpiChannel

if TYPE_CHECKING:
    from fhi_al.ensemble.faster_code import FasterCode
    from fhi_al.ensemble.members import Committee
    from fhi_al.ensemble.predict import CommitteePredictor
    from fhi_al.handlers.select import Selector
    from fhi_al.md.driver import Driver


class MlWorker:
    """Molecular dynamics, training, evaluation and exports.

    Torch and MACE are imported by the effects that need them: computing atomic energies, or
    sampling with the reference, starts at once.

    Args:
        folder: of the run.
        device: where the models live, as torch names it.
        comm: communicator of the ML ranks, or None where there is one; rank 0 of it leads.

    Attributes:
        atomic_energies: element -> eV, where the reference engine brings them along.
    """

    def __init__(self, folder: RunFolder, device: str, comm: Any = None) -> None:
        self._comm = comm
        self._is_peer = comm is not None and comm.rank > 0
        self._peers: list[Channel] = []
        if comm is not None and comm.rank == 0:
            self._peers += [
                MpiChannel(Worker("ML", rank), comm, rank, depth=1) for rank in range(1, comm.size)
            ]
        self.folder = folder
        self._device = device
        self.atomic_energies: Mapping[str, float] = {}
        self._committee: Committee | None = None
        self._predictor: CommitteePredictor | None = None
        self._predicted: str | None = None
        self._foundation: Driver | None = None
        self._selector: Selector | None = None
        self._hurried = False

    def run(self, effect: Effect) -> Slices:
        """Carry out an effect in slices: one MD step or one optimizer step each."""
        return handled(self, effect)

    def hurry(self) -> None:
        """Have molecular dynamics end at its next check."""
        self._hurried = True

    def close(self) -> None:
        """Tell the other ML ranks to stop."""
        for peer in self._peers:
            peer.close()

    def prepare_foundation(self) -> None:
        """Load the foundation model.

        Raises:
            InputError: it isn't there and can't be downloaded.
        """
        if self._foundation is None:
            from fhi_al.handlers.foundation import foundation_driver

            self._foundation = foundation_driver(self.folder.inputs, self._device)

    def isolate(self, effect: Isolate) -> Slices:
        """Write the isolated atoms as structures, or say what energies are known."""
        from fhi_al.reference.isolated import isolated_atoms

        yield
        if self.atomic_energies:
            return Isolated(effect.id, (), tuple(sorted(self.atomic_energies.items())))
        store, digest = self.folder.structures, self.folder.engine_digest
        return Isolated(
            effect.id,
            tuple(
                (symbol, unpaired, store.put(structure, digest))
                for symbol, unpaired, structure in isolated_atoms(self.folder.inputs.elements)
            ),
        )

    def sample(self, effect: Sample) -> Slices:
        """Make structures for the initial dataset."""
        from fhi_al.handlers import dynamics as engine

        if effect.method == "foundation":
            self.prepare_foundation()
        return (yield from engine.sample(effect, self.folder, self._foundation))

    def reference_step(self, effect: ReferenceStep) -> Slices:
        """Move a walker of the ab initio MD."""
        from fhi_al.handlers import dynamics as engine

        yield
        start = time.perf_counter()
        sampled = engine.reference_step(effect, self.folder)
        return replace(sampled, seconds=time.perf_counter() - start)

    def train(self, effect: Train) -> Slices:
        """Train members, together with the other ML ranks."""
        from fhi_al.handlers.train import train

        own, *others = _deal(effect.members, 1 + len(self._peers))
        elsewhere = [member for share in others for member in share]
        everyone = range(self.folder.inputs.al.active_learning.ensemble_size)
        writes = own if self._is_peer else [m for m in everyone if m not in elsewhere]
        busy = [peer for peer, share in zip(self._peers, others, strict=True) if share]
        for peer, share in zip(busy, others, strict=False):
            peer.submit(replace(effect, members=share))
        committee = self._load(effect.weights) if effect.weights else None
        self._committee, trained = yield from train(
            replace(effect, members=own),
            self.folder,
            committee,
            self._device,
            writes,
            self._code.gradients,
            self._code.validation,
        )
        if self._is_peer:
            return trained
        parts = yield from _answers(busy)
        self._committee.take(self.folder, effect.id, elsewhere)
        return _merged(effect, [trained, *parts])

    def advance(self, effect: Advance) -> Slices:
        """Run molecular dynamics, together with the other ML ranks."""
        from fhi_al.handlers import dynamics as engine
        from fhi_al.handlers.team import RemotePart

        if self._is_peer:
            driver = self._predict(effect.weights)
            yield from engine.help_advance(effect, self.folder, driver, self._comm)
            # The leader knows what came of it; this only tells who worked.
            return Advanced(effect.id, "", (), (), (), (), 0.0, driver.path)
        busy = self._peers[: len(effect.trajectories) - 1]
        for peer in busy:
            peer.submit(effect)
        team = [RemotePart(self._comm, rank) for rank in range(1, 1 + len(busy))]
        driver = self._predict(effect.weights)
        advanced = yield from engine.advance(
            effect, self.folder, driver, team, lambda: self._hurried
        )
        answers = yield from _answers(busy)
        return replace(advanced, work=_work(answers))

    def evaluate(self, effect: Evaluate) -> Slices:
        """Measure the errors of the committee."""
        from fhi_al.handlers.evaluate import evaluate

        return (yield from evaluate(effect, self.folder, self._load(effect.weights), self._device))

    def select(self, effect: Select) -> Slices:
        """Compare the structures of the pool, and choose."""
        from fhi_al.handlers.select import Selector

        predictor = self._predict(effect.weights)
        self._selector = self._selector or Selector(self.folder)
        return (yield from self._selector.select(effect, predictor))

    def export(self, effect: Export) -> Slices:
        """Write models, datasets and training histories."""
        from fhi_al.handlers.export import export

        yield
        return export(effect, self.folder, self._load(effect.weights))

    def import_data(self, effect: Import) -> Slices:
        """Take over data and models of the user."""
        from fhi_al.handlers.imports import import_data

        yield
        return import_data(effect, self.folder)

    def _load(self, weights: str) -> Committee:
        """The committee at this checkpoint; the one in memory, if it is there already."""
        from fhi_al.ensemble.members import load_committee

        if self._committee is None:
            self._committee = load_committee(self.folder, weights, self._device)
        self._committee.load(self.folder, weights)
        return self._committee

    @cached_property
    def _code(self) -> FasterCode:
        """What makes faster code, and uses it."""
        from fhi_al.ensemble.faster_code import faster_code

        ranks = self._comm.size if self._comm is not None else 1
        return faster_code(self.folder.inputs, self._device, ranks=ranks, is_peer=self._is_peer)

    def _predict(self, weights: str) -> CommitteePredictor:
        """The committee at this checkpoint, ready for molecular dynamics."""
        from fhi_al.ensemble.cueq import CuEquivariance, converts
        from fhi_al.ensemble.predict import CommitteePredictor

        committee = self._load(weights)
        if self._predictor is None:
            self._predictor = CommitteePredictor(
                committee.models(),
                self._device,
                committee.dtype,
                one_by_one=self.folder.inputs.deterministic,
                fast=self._code.forces,
                cueq=CuEquivariance() if converts(self.folder.inputs, self._device) else None,
            )
        elif self._predicted != weights:
            self._predictor.load(committee.models())
        self._predicted = weights
        return self._predictor


def _deal(members: Sequence[int], hands: int) -> list[tuple[int, ...]]:
    """Deal members round, one hand a rank."""
    return [tuple(members[hand::hands]) for hand in range(hands)]


def _answers(peers: Sequence[Channel]) -> Generator[None, None, list[Event]]:
    """Wait for one event of each peer."""
    answers: list[Event] = []
    waiting = list(peers)
    patience = Patience()
    while waiting:
        for peer in waiting:
            answers += peer.poll()
        waiting = [peer for peer in waiting if peer.free_slots == 0]
        if waiting:
            patience.wait()
            yield
    return answers


def _merged(effect: Train, events: Sequence[Event]) -> Trained:
    """One event of what all ranks have trained."""
    parts = [event for event in events if isinstance(event, Trained)]
    states = list(parts[0].members)
    for part in parts:
        for member in part.trained:
            states[member] = part.members[member]
    return replace(
        parts[0],
        members=tuple(states),
        trained=effect.members,
        history=tuple(sorted(record for part in parts for record in part.history)),
        seconds=max(part.seconds for part in parts),
        work=_work(events[1:]),
    )


def _work(events: Sequence[Event]) -> tuple[Work, ...]:
    """What the other ranks did for an outcome."""
    return tuple(work for event in events if isinstance(event, Outcome) for work in event.work)
