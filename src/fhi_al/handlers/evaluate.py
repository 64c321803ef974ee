"""`Evaluate`: errors of the members and of the committee's mean."""

from __future__ import annotations

import time
from collections.abc import Generator

import torch

from fhi_al.analysis.predictions import Predictions, save_predictions
from fhi_al.analysis.scores import Scores, all_scores
from fhi_al.ensemble.evaluate import DataSet, predict_sets
from fhi_al.ensemble.members import Committee
from fhi_al.folder.run_folder import RunFolder
from fhi_al.record.effects import Evaluate
from fhi_al.record.events import Errors, Evaluated


def evaluate(
    effect: Evaluate, folder: RunFolder, committee: Committee, device: str | torch.device
) -> Generator[None, None, Evaluated]:
    """Measure the members, and their mean, on all validation labels and on the user's test set.

    Yields after every batch of every member. The predictions are kept, for the report.

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
    sets = yield from predict_sets(effect, folder, committee, device)
    save_predictions(folder.predictions, sets, folder.run, effect.weights)
    errors = [error for data, predictions in sets.items() for error in _errors(data, predictions)]
    return Evaluated(effect.id, tuple(errors), time.monotonic() - began)


def _errors(data: DataSet, predictions: Predictions) -> list[Errors]:
    names = [f"member {index}" for index in predictions.members]
    return [_error(data, scores) for scores in all_scores(predictions, names) if not scores.species]


def _error(data: DataSet, scores: Scores) -> Errors:
    assert scores.energy is not None
    assert scores.forces is not None
    return Errors(
        who=scores.who,
        data=data,
        force_mae=scores.forces.mae,
        force_rmse=scores.forces.rmse,
        energy_mae=scores.energy.mae,
        energy_rmse=scores.energy.rmse,
        n_structures=scores.n_structures,
        system=scores.system,
    )
