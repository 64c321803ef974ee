"""What the members predict for the validation labels and the user's test set."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mace.data import AtomicData

from fhi_al.analysis.predictions import Predictions, joined_predictions
from fhi_al.atoms.structure import BoolArray, FloatArray
from fhi_al.atoms.voigt import to_voigt
from fhi_al.ensemble.data import loader, member_keys
from fhi_al.ensemble.frames import read_labels
from fhi_al.ensemble.members import Committee, load_committee
from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.state import State
from fhi_al.record.effects import Evaluate
from fhi_al.record.events import ALL_MEMBERS, Opened
from fhi_al.settings import load_inputs

DataSet = Literal["validation", "test"]


def predict_sets(
    effect: Evaluate, folder: RunFolder, committee: Committee, device: str | torch.device
) -> Generator[None, None, dict[DataSet, Predictions]]:
    """Predict all validation labels and the user's test set; yields after every batch of a member.

    Args:
        effect: which members, and the datasets.
        folder: with the labels.
        committee: at `effect.weights`.
        device: where its models live.

    Raises:
        InputError: the test set can't be used.
    """
    graphs = committee.graphs(folder)
    _, valid = member_keys(tuple(effect.entries), ALL_MEMBERS, union=True)
    sets: dict[DataSet, Predictions] = {}
    if valid:
        sets["validation"] = yield from _predictions(graphs.of(valid), effect, committee, device)
    test_set = committee.inputs.al.active_learning.test_set
    if test_set is not None:
        labels, _ = read_labels(test_set)
        tests = [graphs.build(label) for label in labels]
        sets["test"] = yield from _predictions(tests, effect, committee, device)
    return sets


def predict_now(directory: Path, opened: Opened, state: State) -> dict[str, Predictions]:
    """Predict what `evaluate` would measure, in a process that takes no part in the run.

    Args:
        directory: with the input files.
        opened: first event of the run.
        state: of the run, with weights.

    Returns:
        Dataset -> predictions of all members; empty where there is nothing to validate on.

    Raises:
        InputError: the input files or the test set can't be used.
        JournalError: labels or weights are not there; those of a run at work are replaced now and
            then.
    """
    assert state.books.weights is not None
    inputs = load_inputs(directory)
    folder = RunFolder(inputs, opened.engine, opened.run)
    committee = load_committee(folder, state.books.weights, "cpu")
    everyone = tuple(range(state.rules.ensemble_size))
    slices = predict_sets(
        Evaluate("report", state.books.weights, everyone, state.books.entries),
        folder,
        committee,
        "cpu",
    )
    while True:
        try:
            next(slices)
        except StopIteration as end:
            sets: dict[str, Predictions] = end.value
            return sets


def _predictions(
    graphs: list[AtomicData], effect: Evaluate, committee: Committee, device: str | torch.device
) -> Generator[None, None, Predictions]:
    models = committee.models()
    elements = np.array(committee.members[0].spec.elements)
    parts: list[Predictions] = []
    for batch in loader(graphs, committee.inputs.mace.training.valid_batch_size):
        batch = batch.to(device)
        predicted = []
        for index in effect.members:
            predicted.append(_predict(models[index], batch))
            yield
        energies, forces, stress = (np.stack(values) for values in zip(*predicted, strict=True))
        parts.append(
            Predictions(
                members=np.array(effect.members),
                numbers=elements[batch.node_attrs.argmax(1).cpu()],
                ptr=batch.ptr.cpu().numpy(),
                true_energies=_array(batch.energy),
                true_forces=_array(batch.forces),
                true_stress=np.where(
                    _has_stress(batch)[:, None], to_voigt(_array(batch.stress)), np.nan
                ),
                energies=energies,
                forces=forces,
                stress=stress,
            )
        )
    return joined_predictions(parts)


def _has_stress(batch: Any) -> BoolArray:
    """Which structures have a stress of the reference."""
    has: BoolArray = (batch.stress_weight > 0).cpu().numpy()
    return has


def _predict(model: torch.nn.Module, batch: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Energies (structures,) in eV, forces (atoms, 3) in eV/Å, stress (structures, 6) in eV/Å^3."""
    has_stress = _has_stress(batch)
    output = model(
        batch.to_dict(),
        training=False,
        compute_force=True,
        compute_stress=bool(has_stress.any()),
    )
    energies, forces = _array(output["energy"]), _array(output["forces"])
    stress = np.full((len(energies), 6), np.nan)
    if has_stress.any():
        stress[has_stress] = to_voigt(_array(output["stress"]))[has_stress]
    return energies, forces, stress


def _array(values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.detach().double().cpu().numpy()
    return array
