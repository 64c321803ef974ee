"""Errors of the members and of the committee's mean."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from ase.formula import Formula
from mace.data import AtomicData

from fhi_al.effects import Evaluate
from fhi_al.ensemble.data import loader, member_keys
from fhi_al.ensemble.frames import read_labels
from fhi_al.ensemble.members import Committee
from fhi_al.events import ALL_MEMBERS, Errors, Evaluated
from fhi_al.run_folder import RunFolder
from fhi_al.structure import FloatArray


@dataclass
class _Deviations:
    """Predicted minus true values of one model."""

    forces: list[FloatArray] = field(default_factory=list)
    energies: list[FloatArray] = field(default_factory=list)

    def errors(self, who: str, data: Literal["validation", "test"], system: str = "") -> Errors:
        forces, energies = np.concatenate(self.forces), np.concatenate(self.energies)
        return Errors(
            who=who,
            data=data,
            force_mae=float(np.abs(forces).mean()),
            force_rmse=float(np.sqrt(np.square(forces).mean())),
            energy_mae=float(np.abs(energies).mean()),
            energy_rmse=float(np.sqrt(np.square(energies).mean())),
            n_structures=len(energies),
            system=system,
        )


def evaluate(
    effect: Evaluate, folder: RunFolder, committee: Committee, device: str | torch.device
) -> Generator[None, None, Evaluated]:
    """Measure the members, and their mean, on all validation labels and on the user's test set.

    Yields after every batch of every member.

    Args:
        effect: which members, and the datasets.
        folder: with the labels.
        committee: at `effect.weights`.
        device: where its models live.

    Returns:
        The event. Nothing is measured on a set that is empty.

    Raises:
        InputError: the test set can't be used.
    """
    began = time.monotonic()
    graphs = committee.graphs(folder)
    _, valid = member_keys(tuple(effect.entries), ALL_MEMBERS, union=True)
    found: list[Errors] = []
    if valid:
        found += yield from _measure("validation", graphs.of(valid), effect, committee, device)
    test_set = committee.inputs.al.active_learning.test_set
    if test_set is not None:
        labels, _ = read_labels(test_set)
        tests = [graphs.build(label) for label in labels]
        found += yield from _measure("test", tests, effect, committee, device)
    return Evaluated(effect.id, tuple(found), time.monotonic() - began)


def _measure(
    data: Literal["validation", "test"],
    graphs: list[AtomicData],
    effect: Evaluate,
    committee: Committee,
    device: str | torch.device,
) -> Generator[None, None, list[Errors]]:
    models = committee.models()
    members = [_Deviations() for _ in effect.members]
    mean = _Deviations()
    symbols = np.array(committee.inputs.elements)
    formulas = [_formula(symbols[graph.node_attrs.argmax(1).cpu()]) for graph in graphs]
    systems = {formula: _Deviations() for formula in dict.fromkeys(formulas)}
    done = 0
    for batch in loader(graphs, committee.inputs.mace.training.valid_batch_size):
        batch = batch.to(device)
        predictions = []
        for index, deviations in zip(effect.members, members, strict=True):
            predictions.append(_predict(models[index], batch))
            _add(deviations, batch, *predictions[-1])
            yield
        energies, forces = (np.mean(values, axis=0) for values in zip(*predictions, strict=True))
        _add(mean, batch, energies, forces)
        ptr = batch.ptr.cpu().numpy()
        for i, (first, last) in enumerate(pairwise(ptr)):
            of_system = systems[formulas[done + i]]
            of_system.energies.append(mean.energies[-1][i : i + 1])
            of_system.forces.append(mean.forces[-1][first:last])
        done += len(ptr) - 1
    errors = [
        deviations.errors(f"member {index}", data)
        for index, deviations in zip(effect.members, members, strict=True)
    ]
    if len(members) > 1:
        errors.append(mean.errors("committee", data))
    if len(systems) > 1:
        who = "committee" if len(members) > 1 else errors[0].who
        errors += [found.errors(who, data, system) for system, found in systems.items()]
    return errors


def _formula(symbols: Iterable[str]) -> str:
    formula: str = Formula.from_list([str(symbol) for symbol in symbols]).format("hill")
    return formula


def _predict(model: torch.nn.Module, batch: Any) -> tuple[FloatArray, FloatArray]:
    """Energies (structures,) in eV and forces (atoms, 3) in eV/Å."""
    output = model(batch.to_dict(), training=False, compute_force=True)
    return tuple(output[name].detach().double().cpu().numpy() for name in ("energy", "forces"))


def _add(deviations: _Deviations, batch: Any, energies: FloatArray, forces: FloatArray) -> None:
    atoms = (batch.ptr[1:] - batch.ptr[:-1]).cpu().numpy()
    deviations.energies.append((energies - batch.energy.double().cpu().numpy()) / atoms)
    deviations.forces.append(forces - batch.forces.double().cpu().numpy())
