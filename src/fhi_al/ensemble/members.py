"""The committee: its members, their checkpoints, and the constants that they share."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from mace.data import compute_average_E0s
from mace.modules import compute_avg_num_neighbors, scaling_classes
from mace.tools import AtomicNumberTable

from fhi_al.ensemble.architecture import (
    DTYPES,
    ModelSpec,
    architecture_options,
    compute_alike_always,
    default_dtype,
)
from fhi_al.ensemble.data import Graphs, configuration, loader
from fhi_al.ensemble.member import FORMAT, Member, training_options
from fhi_al.errors import InputError, JournalError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.record.files import write_file
from fhi_al.settings import Inputs

log = logging.getLogger(__name__)


@dataclass
class Committee:
    """The members that are alive in this process, and the checkpoint that they are at.

    Attributes:
        inputs: what the user asked for.
        device: where the models live.
        weights: the checkpoint that the members equal, or None: none yet, or in training.
        members: in order; empty until there are models.
    """

    inputs: Inputs
    device: torch.device
    weights: str | None = None
    members: list[Member] = field(default_factory=list)
    _graphs: Graphs | None = None
    _models: list[torch.nn.Module] = field(default_factory=list)
    _specs: list[ModelSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.inputs.deterministic:
            compute_alike_always()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the models."""
        return DTYPES[self.members[0].spec.dtype]

    def graphs(self, folder: RunFolder) -> Graphs:
        """The cached graphs of the run's labels, as these models need them."""
        if self._graphs is None:
            spec = self.members[0].spec if self.members else None
            self._graphs = Graphs(
                folder.labels,
                spec.elements if spec else elements(self.inputs),
                spec.r_max if spec else self.inputs.mace.architecture.r_max,
                spec.dtype if spec else self.inputs.mace.general.default_dtype,
                stress=self.inputs.with_stress,
                config_type_weights=self.inputs.mace.training.config_type_weights,
            )
        return self._graphs

    def load(self, folder: RunFolder, weights: str) -> None:
        """Be at a checkpoint; nothing is read where the members are there already.

        Raises:
            JournalError: a file is missing or damaged.
        """
        if self.weights == weights:
            return
        size = self.inputs.al.active_learning.ensemble_size
        former = self.members[0].spec if self.members else None
        self.members = [self._read_member(folder, weights, index) for index in range(size)]
        if self.members[0].spec != former:
            self._graphs = None
        self.weights = weights

    def save(self, folder: RunFolder, weights: str, members: Iterable[int] | None = None) -> None:
        """Write a checkpoint; durable when this returns.

        Args:
            folder: of the run.
            weights: name of the checkpoint.
            members: those to write; None: all. The others are written, or taken, by other ranks.
        """
        indices = range(len(self.members)) if members is None else members
        for index in indices:
            state = self.members[index].state_dict()
            write_file(folder.checkpoint(weights, index), partial(torch.save, state))
        self.weights = weights if members is None else None

    def take(self, folder: RunFolder, weights: str, members: Iterable[int]) -> None:
        """Take over members that other ranks have trained, and be at that checkpoint.

        Args:
            folder: of the run.
            weights: name of the checkpoint; all members that are not taken equal it already.
            members: those to read.
        """
        for index in members:
            self.members[index] = self._read_member(folder, weights, index)
        self.weights = weights

    def _read_member(self, folder: RunFolder, weights: str, index: int) -> Member:
        state = _read(folder.checkpoint(weights, index), self.device)
        former = self.members[index] if index < len(self.members) else None
        return Member.from_state_dict(state, training_options(self.inputs), self.device, former)

    def models(self) -> list[torch.nn.Module]:
        """Models with the weights to predict with, apart from those that train.

        Returns:
            The same modules at every call while their constants stay the same, in evaluation
            mode and without gradients of the weights, refreshed by the call.
        """
        specs = [member.spec for member in self.members]
        if specs != self._specs:
            self._models = [deepcopy(member.model).eval() for member in self.members]
            self._specs = specs
        for model, member in zip(self._models, self.members, strict=True):
            for parameter, weight in zip(model.parameters(), member.delivered(), strict=True):
                parameter.requires_grad_(False)
                parameter.copy_(weight)
        return self._models


def load_committee(folder: RunFolder, weights: str, device: str | torch.device) -> Committee:
    """Rebuild the committee of a checkpoint.

    Raises:
        JournalError: a file is missing or damaged.
    """
    committee = Committee(folder.inputs, torch.device(device))
    committee.load(folder, weights)
    return committee


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise JournalError(f"{path} is missing, though the journal names it") from None
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise JournalError(f"{path} can't be read: {error}") from error
    if state.get("format") != FORMAT:
        raise JournalError(
            f"{path} is a checkpoint of format {state.get('format')}, this version reads {FORMAT}"
        )
    return state


# --- new models ------------------------------------------------------------------------------


def elements(inputs: Inputs) -> tuple[int, ...]:
    """Atomic numbers in all geometries, sorted: the elements of all models."""
    return tuple(atomic_numbers[symbol] for symbol in inputs.elements)


def member_seeds(seed: int, size: int) -> list[int]:
    """A seed for each member, of its weights and batches.

    Args:
        seed: GENERAL.seed.
        size: members.
    """
    children = np.random.SeedSequence(seed).spawn(size)
    return [int(child.generate_state(1)[0]) for child in children]


def atomic_energies(
    inputs: Inputs,
    given: Sequence[tuple[str, float]] | None,
    folder: RunFolder,
    keys: Sequence[str],
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Find the E0s: those given, else those of the settings, else a fit to the energies.

    Args:
        inputs: with the settings.
        given: computed isolated-atom energies (symbol, eV), or None.
        folder: with the labels.
        keys: of the labels to fit to.

    Returns:
        Energies in eV in the order of the elements, and the elements that were fitted to.
    """
    zs = elements(inputs)
    settings = inputs.mace.architecture.atomic_energies
    known = dict(given) if given is not None else settings
    if isinstance(known, Mapping):
        return tuple(float(known[chemical_symbols[z]]) for z in zs), ()
    configurations = [configuration(folder.labels.get(key)) for key in keys]
    fit = compute_average_E0s(configurations, AtomicNumberTable(list(zs)))
    present = {int(z) for config in configurations for z in config.atomic_numbers}
    return tuple(float(fit[z]) for z in zs), tuple(sorted(present))


def new_members(
    committee: Committee,
    folder: RunFolder,
    keys: Sequence[str],
    given_energies: Sequence[tuple[str, float]] | None,
) -> list[Member]:
    """Build the members of a new committee: same constants, different weights.

    Args:
        committee: that they are for.
        folder: with the labels.
        keys: of the first training sets of all members together.
        given_energies: see `atomic_energies`.

    Raises:
        InputError: no data, or no two atoms within the cutoff.
    """
    inputs = committee.inputs
    architecture, training = inputs.mace.architecture, inputs.mace.training
    if not keys:
        raise InputError(
            "There is no training label to build the models from; check n_samples and valid_ratio "
            "in active_learning_settings.yaml."
        )
    energies, fitted = atomic_energies(inputs, given_energies, folder, keys)
    dtype = inputs.mace.general.default_dtype
    graphs = committee.graphs(folder).of(keys)
    batches = loader(graphs, training.valid_batch_size)
    neighbors, shift, scale = 1.0, 0.0, 1.0
    if not any(graph.edge_index.shape[1] for graph in graphs):
        raise InputError(
            "mace_settings.yaml: ARCHITECTURE.r_max: no two atoms of the training set are within "
            f"{architecture.r_max} Å of each other; give a larger cutoff."
        )
    with default_dtype(dtype):
        if architecture.compute_avg_num_neighbors:
            neighbors = compute_avg_num_neighbors(batches)
        if training.scaling != "no_scaling":
            mean, std = scaling_classes[training.scaling](batches, np.array([energies]))
            shift, scale = np.ravel(mean).item(), np.ravel(std).item()
    spec = ModelSpec(
        options=architecture_options(architecture),
        elements=elements(inputs),
        atomic_energies=energies,
        avg_num_neighbors=float(neighbors),
        scale=scale,
        shift=shift,
        dtype=dtype,
    )
    log.info(
        "New models: E0s %s eV (%s), %.2f neighbours on average, scale %.4f eV, shift %.4f eV.",
        ", ".join(
            f"{chemical_symbols[z]} {e:.4f}" for z, e in zip(spec.elements, energies, strict=True)
        ),
        "fitted" if fitted else "given",
        neighbors,
        scale,
        shift,
    )
    options = training_options(inputs)
    seeds = member_seeds(inputs.mace.general.seed, inputs.al.active_learning.ensemble_size)
    members = [Member(spec, seed, options, committee.device) for seed in seeds]
    for member in members:
        member.update(fitted_elements=fitted)
    return members
