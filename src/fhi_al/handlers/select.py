"""`Select`: which structures of the pool are worth a label."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import FloatArray, Structure
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.errors import JournalError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.handlers.choosing import selected
from fhi_al.md.uncertainty import UNCERTAINTIES
from fhi_al.record.effects import Select
from fhi_al.record.events import Selected
from fhi_al.record.measures import MEASURES, Describe


class Selector:
    """Asks the committee about the structures of the pool.

    It remembers the structures, and, as long as the weights are the same, what it has made of them.

    Args:
        folder: with structures and labels.
        batch_size: structures that are looked at together; None: as many as are validated on.
    """

    def __init__(self, folder: RunFolder, batch_size: int | None = None) -> None:
        self._folder = folder
        self._batch_size = batch_size or folder.inputs.mace.training.valid_batch_size
        self._structures: dict[str, Structure] = {}
        self._rows: dict[str, FloatArray] = {}
        self._described: tuple[str, str] | None = None

    def select(
        self, effect: Select, predictor: CommitteePredictor
    ) -> Generator[None, None, Selected]:
        """Compare, score and choose, as `choosing.selected` says; yields after every batch.

        The score is the run's uncertainty.

        Args:
            effect: what waits, and how to choose.
            predictor: the committee at `effect.weights`.

        Returns:
            The event.

        Raises:
            JournalError: a structure or label is missing or damaged.
            ValueError: the measure can't work with so few members.
        """
        began = time.monotonic()
        labelled = {entry.key for entry in effect.entries} | {*effect.ahead}
        known = sorted(labelled - {*effect.waiting})
        waiting = sorted(effect.waiting)
        self._forget(effect, {*known, *waiting})
        yield from self._describe([*known, *waiting], MEASURES[effect.by].load(), predictor)
        scores: dict[str, float] = {}
        for keys in self._batches(waiting):
            scores |= zip(keys, self._uncertainties(keys, predictor), strict=True)
            yield
        rows = self._rows
        answer = selected(
            effect, {key: rows[key] for key in waiting}, {key: rows[key] for key in known}, scores
        )
        return replace(answer, seconds=time.monotonic() - began)

    def _forget(self, effect: Select, needed: set[str]) -> None:
        """Keep what is still needed, and true."""
        described = effect.weights, effect.by
        if described != self._described:
            self._described, self._rows = described, {}
        self._structures = {k: v for k, v in self._structures.items() if k in needed}
        self._rows = {k: v for k, v in self._rows.items() if k in needed}

    def _describe(
        self, keys: Sequence[str], describe: Describe, predictor: CommitteePredictor
    ) -> Generator[None, None, None]:
        for some in self._batches([key for key in keys if key not in self._rows]):
            found = predictor.described(self._batch(some, predictor), describe)
            self._rows |= zip(some, found.cpu().numpy(), strict=True)
            yield

    def _uncertainties(self, keys: Sequence[str], predictor: CommitteePredictor) -> list[float]:
        uncertainty = UNCERTAINTIES[self._folder.inputs.al.active_learning.uncertainty]
        batch = self._batch(keys, predictor)
        fixed = np.concatenate([self._structure(key).fixed for key in keys])
        out = predictor.predict(batch, stress="stress" in uncertainty.needs)
        mobile = torch.from_numpy(~fixed).to(predictor.device)
        values: list[float] = uncertainty.load()(
            out.forces, batch, mobile, stress=out.stress
        ).tolist()
        return values

    def _batches(self, keys: Sequence[str]) -> Iterator[Sequence[str]]:
        size = self._batch_size
        return (keys[first : first + size] for first in range(0, len(keys), size))

    def _batch(self, keys: Sequence[str], predictor: CommitteePredictor) -> Batch:
        return Batch.from_structures([self._structure(key) for key in keys], predictor.device)

    def _structure(self, key: str) -> Structure:
        if key not in self._structures:
            self._structures[key] = self._read(key)
        return self._structures[key]

    def _read(self, key: str) -> Structure:
        labels, structures = self._folder.labels, self._folder.structures
        if not labels.has(key):
            try:
                return structures.get(key)[0]
            except JournalError:
                # Its label has come, and the structure has gone, since.
                if not labels.has(key):
                    raise
        return labels.get(key).structure
