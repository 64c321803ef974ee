"""`Calculate`: the reference's energy and forces of a structure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from fhi_al.atoms.structure import Label, Structure
from fhi_al.errors import UnconvergedError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.handlers.worker import Slices, handled
from fhi_al.mpi.messages import share
from fhi_al.record.effects import Calculate, Effect
from fhi_al.record.events import Labelled, LabelRejected
from fhi_al.reference.engine import Labeller


class ReferenceWorker:
    """Labels structures with the group's engine; runs on the leader of the group.

    Args:
        folder: of the run.
        engine: this rank's part of the group's engine.
        comm: of the ranks that take part in each calculation, or None where this one works alone.
    """

    def __init__(self, folder: RunFolder, engine: Labeller, comm: Any) -> None:
        self._folder = folder
        self._engine = engine
        self._comm = comm

    def run(self, effect: Effect) -> Slices:
        """Carry out an effect."""
        return handled(self, effect)

    def calculate(self, effect: Calculate) -> Slices:
        """Compute a label, unless the store has it already; in one slice."""
        yield
        labels, key = self._folder.labels, effect.key
        structures = self._folder.structures
        seconds, predicted = 0.0, None
        if labels.has(key):
            label = labels.get(key)
            if structures.has(key):
                _, predicted = structures.get(key)
        else:
            structure, predicted = structures.get(key)
            start = time.perf_counter()
            try:
                label = self._compute(effect, structure)
            except UnconvergedError as error:
                return LabelRejected(
                    effect.id,
                    key,
                    str(error),
                    time.perf_counter() - start,
                    kind=error.kind,
                    attempts=error.attempts,
                )
            labels.put(label, self._folder.engine_digest)
            seconds = time.perf_counter() - start
        off = None if predicted is None else float(np.abs(predicted - label.forces).mean())
        return Labelled(
            effect.id,
            key,
            label.energy,
            seconds,
            force_error=off,
            formula=label.structure.to_atoms().get_chemical_formula(),
            n_atoms=len(label.structure),
            rescue=str(label.provenance.get("rescue", "")),
        )

    def _compute(self, effect: Calculate, structure: Structure) -> Label:
        share(self._comm, structure)
        label = self._engine.label(structure)
        asked: Mapping[str, Any] = {
            name: getattr(effect, name)
            for name in ("purpose", "trajectory", "step", "uncertainty", "threshold")
        }
        return Label(
            structure=structure,
            key=effect.key,
            energy=label.energy,
            forces=label.forces,
            stress=label.stress,
            provenance={
                **label.provenance,
                **{name: value for name, value in asked.items() if value is not None},
            },
        )

    def hurry(self) -> None:
        """A calculation can't be interrupted."""

    def close(self) -> None:
        """Free the engine on all ranks of the group."""
        share(self._comm, None)
        self._engine.close()
