"""Labels as the graphs that MACE trains on, and which member trains on which."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mace.data import AtomicData, Configuration
from mace.tools import AtomicNumberTable
from mace.tools.torch_geometric.dataloader import Collater, DataLoader

from fhi_al.atoms.structure import Label
from fhi_al.ensemble.architecture import default_dtype
from fhi_al.errors import InputError
from fhi_al.fast.padding import Tensors
from fhi_al.record.events import ALL_MEMBERS, Entry
from fhi_al.record.labels import LabelStore
from fhi_al.settings.mace import Training

log = logging.getLogger(__name__)

STRESS_LOSSES = ("stress", "virials", "huber", "universal")
"""The losses that a stress, or virials, enter."""


@dataclass(frozen=True)
class Counts:
    """What a dataset holds.

    Attributes:
        structures: in all.
        energies: structures with an energy that the loss sees.
        forces: likewise with forces.
        stress: likewise with a stress.
    """

    structures: int
    energies: int
    forces: int
    stress: int


def member_keys(
    entries: Iterable[Entry], member: int, *, union: bool = False
) -> tuple[list[str], list[str]]:
    """Choose what a member trains on and what it is validated on.

    Args:
        entries: the datasets, in journal order.
        member: whose sets; with `union` they are the same for all.
        union: everybody's training labels, and everybody's validation labels.

    Returns:
        Keys to train on and keys to validate on, each once, in journal order. A label in any
        chosen validation set is not trained on; audit labels are in neither.
    """
    chosen = [entry for entry in entries if union or entry.member in (member, ALL_MEMBERS)]
    valid = dict.fromkeys(entry.key for entry in chosen if entry.split == "valid")
    train = dict.fromkeys(entry.key for entry in chosen if entry.split == "train")
    return [key for key in train if key not in valid], list(valid)


def configuration(
    label: Label, *, stress: bool = True, config_type_weights: Mapping[str, float] | None = None
) -> Configuration:
    """Turn a label into MACE's form: eV, eV/Å, eV/Å^3 in ASE's sign, virials in eV.

    Args:
        label: what the reference said.
        stress: whether its stress, if it has one, counts.
        config_type_weights: weight in the loss for each `config_type`; 1 where not named.
    """
    has_stress = stress and label.stress is not None
    structure = label.structure
    properties = {"energy": label.energy, "forces": np.array(label.forces)}
    if has_stress:
        assert label.stress is not None
        properties["stress"] = np.array(label.stress)
        # MACE: virials = -volume * stress.
        properties["virials"] = -abs(np.linalg.det(structure.cell)) * properties["stress"]
    config_type = str(label.provenance.get("config_type", "Default"))
    weights = {"energy": 1.0, "forces": 1.0, "stress": has_stress, "virials": has_stress}
    return Configuration(
        atomic_numbers=np.array(structure.numbers),
        positions=np.array(structure.positions),
        cell=np.array(structure.cell),
        pbc=tuple(bool(periodic) for periodic in structure.pbc),
        properties=properties,
        property_weights={name: float(weight) for name, weight in weights.items()},
        weight=float((config_type_weights or {}).get(config_type, 1.0)),
        config_type=config_type,
    )


class Graphs:
    """The graphs of labels, each built once: neighbour lists don't change.

    Args:
        labels: where to read them.
        elements: atomic numbers that the models know, sorted.
        r_max: cutoff in Å.
        dtype: `float32` or `float64`.
        stress: whether stresses count.
        config_type_weights: see `configuration`.
    """

    def __init__(
        self,
        labels: LabelStore,
        elements: Sequence[int],
        r_max: float,
        dtype: str,
        *,
        stress: bool,
        config_type_weights: Mapping[str, float],
    ) -> None:
        self._labels = labels
        self._table = AtomicNumberTable(list(elements))
        self._r_max = r_max
        self._dtype = dtype
        self._stress = stress
        self._weights = config_type_weights
        self._cache: dict[str, AtomicData] = {}

    def __getitem__(self, key: str) -> AtomicData:
        """The graph of a stored label."""
        if key not in self._cache:
            self._cache[key] = self.build(self._labels.get(key))
        return self._cache[key]

    def of(self, keys: Iterable[str]) -> list[AtomicData]:
        """The graphs of stored labels, in order."""
        return [self[key] for key in keys]

    def build(self, label: Label) -> AtomicData:
        """Make the graph of one label.

        Raises:
            InputError: an element that the models don't know.
        """
        if strange := sorted(set(label.structure.numbers.tolist()) - set(self._table.zs)):
            raise InputError(
                f"The label {label.key[:12]} ({label.provenance.get('source', 'of this run')}) has "
                f"atoms with the atomic numbers {strange}, the models know {self._table.zs}; all "
                "elements must be in geometry.in."
            )
        config = configuration(label, stress=self._stress, config_type_weights=self._weights)
        with default_dtype(self._dtype):
            return AtomicData.from_config(config, z_table=self._table, cutoff=self._r_max)


def count(graphs: Iterable[AtomicData], training: Training | None = None) -> Counts:
    """Count what a dataset holds, as the loss sees it: with a weight above zero.

    Args:
        graphs: the dataset.
        training: weights and kind of the loss; None: one that takes everything.
    """
    rows = [
        [
            bool(graph.weight * graph[f"{name}_weight"] > 0)
            for name in ("energy", "forces", "stress")
        ]
        for graph in graphs
    ]
    sums = np.array(rows, dtype=int).reshape(-1, 3).sum(axis=0)
    taken = (True, True, True) if training is None else _taken(training)
    return Counts(len(rows), *(int(n) * use for n, use in zip(sums, taken, strict=True)))


def _taken(training: Training) -> tuple[bool, bool, bool]:
    """Whether energies, forces and stresses enter the loss."""
    weight = training.virials_weight if training.loss == "virials" else training.stress_weight
    return (
        training.loss != "forces_only" and training.energy_weight > 0,
        training.forces_weight > 0,
        training.loss in STRESS_LOSSES and weight > 0,
    )


def loader(graphs: list[AtomicData], batch_size: int) -> DataLoader:
    """Deal graphs into batches, in their order; the last one may be smaller.

    Args:
        graphs: the dataset.
        batch_size: graphs a batch, at most.
    """
    return DataLoader(graphs, batch_size=batch_size, shuffle=False, drop_last=False)


def shuffled(
    graphs: list[AtomicData], batch_size: int, generator: torch.Generator
) -> Iterator[list[AtomicData]]:
    """Deal graphs at random, not put together yet; the last hand may be smaller.

    Args:
        graphs: the dataset.
        batch_size: graphs a hand, at most.
        generator: of the order.
    """
    dealer: Iterable[list[AtomicData]] = torch.utils.data.DataLoader(
        graphs,  # type: ignore[arg-type]  # a list will do
        batch_size=batch_size,
        shuffle=True,
        generator=generator,
        collate_fn=list,
    )
    return iter(dealer)


collate = Collater(follow_batch=[None], exclude_keys=[None])
"""Puts graphs together to a batch, as MACE's loader does."""


def stacked(graphs: Sequence[AtomicData], names: Iterable[str]) -> Tensors:
    """Some items of the batch of these graphs: `collate` takes ten times as long for all of them.

    Args:
        graphs: to put together.
        names: of the items.
    """
    sizes = torch.tensor([len(graph.positions) for graph in graphs])
    ends = sizes.cumsum(0)
    known = {
        "batch": torch.repeat_interleave(sizes),
        "ptr": torch.cat([ends.new_zeros(1), ends]),
        "edge_index": torch.cat(
            [graph.edge_index + first for graph, first in zip(graphs, ends - sizes, strict=True)],
            dim=1,
        ),
    }
    return {name: known[name] if name in known else _together(graphs, name) for name in names}


def _together(graphs: Sequence[AtomicData], name: str) -> torch.Tensor:
    values = [graph[name] for graph in graphs]
    return torch.cat(values) if values[0].dim() else torch.stack(values)
