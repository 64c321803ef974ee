"""Predictions of models that somebody else may have made, for data that somebody else has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols

from fhi_al.analysis.predictions import Predictions
from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import FloatArray, IntArray, Label
from fhi_al.atoms.voigt import to_voigt
from fhi_al.ensemble.architecture import load_model_file
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.errors import InputError


def predict_labels(
    models: Sequence[Path],
    labels: Sequence[Label],
    *,
    device: str = "cpu",
    dtype: str | None = None,
    batch_size: int = 10,
) -> Predictions:
    """Predict labelled structures with each of some models.

    The models may differ in everything, as long as they know all elements of the data.

    Args:
        models: MACE model files.
        labels: the data.
        device: where to compute, as torch names it.
        dtype: `float32` or `float64`; None: that of each model.
        batch_size: structures at once.

    Raises:
        InputError: a file is no MACE model, a model doesn't know an element, or there is no such
            device.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {device!r} can't be used: {error}") from error
    numbers = np.concatenate([label.structure.numbers for label in labels])
    columns = [
        _predict_one(_load(path, device, dtype, numbers), labels, batch_size) for path in models
    ]
    stress = np.array(
        [np.full(6, np.nan) if label.stress is None else label.stress for label in labels]
    )
    energies, forces, strained = (np.stack(values) for values in zip(*columns, strict=True))
    return Predictions(
        members=np.arange(len(models)),
        numbers=numbers,
        ptr=np.cumsum([0, *(len(label.structure) for label in labels)]),
        true_energies=np.array([label.energy for label in labels]),
        true_forces=np.concatenate([label.forces for label in labels]),
        true_stress=stress,
        energies=energies,
        forces=forces,
        stress=np.where(np.isfinite(stress), strained, np.nan),
    )


def _load(path: Path, device: str, dtype: str | None, numbers: IntArray) -> CommitteePredictor:
    model = load_model_file(path)
    known = {int(z) for z in model.get_buffer("atomic_numbers")}
    if missing := sorted(set(numbers.tolist()) - known):
        raise InputError(
            f"{path} doesn't know the elements {_symbols(missing)} of the data; it knows "
            f"{_symbols(sorted(known))}."
        )
    precision = next(model.parameters()).dtype if dtype is None else getattr(torch, dtype)
    return CommitteePredictor([model], device, precision)


def _symbols(numbers: Sequence[int]) -> str:
    return " ".join(chemical_symbols[number] for number in numbers)


def _predict_one(
    predictor: CommitteePredictor, labels: Sequence[Label], batch_size: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Energies (structures,), forces (atoms, 3) and stress (structures, 6) of one model."""
    with_stress = any(label.stress is not None for label in labels)
    energies, forces, stress = [], [], []
    for first in range(0, len(labels), batch_size):
        structures = [label.structure for label in labels[first : first + batch_size]]
        batch = Batch.from_structures(structures, predictor.device)
        found = predictor.predict(batch, stress=with_stress)
        energies.append(found.energies[0].cpu().numpy())
        forces.append(found.forces[0].cpu().numpy())
        stress.append(
            np.full((len(structures), 6), np.nan)
            if found.stress is None
            else to_voigt(found.stress[0].cpu().numpy())
        )
    return np.concatenate(energies), np.concatenate(forces), np.concatenate(stress)
