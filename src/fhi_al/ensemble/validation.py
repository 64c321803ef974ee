"""Validation of a member: its loss and errors on labels that it isn't trained on."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from mace.data import AtomicData
from mace.tools.train import MACELoss, preserve_grad_state

from fhi_al.ensemble.architecture import default_dtype
from fhi_al.ensemble.data import collate
from fhi_al.ensemble.fast_validation import FastValidation, ModelOutput
from fhi_al.ensemble.member import Member


def validate(
    member: Member,
    valid_set: list[AtomicData],
    batch_size: int,
    fast: FastValidation | None = None,
) -> Generator[None, None, tuple[float, float, float]]:
    """Measure a member, with its averaged weights.

    As many batches are evaluated together as the member has room for.

    Args:
        member: to measure.
        valid_set: labels that it isn't trained on.
        batch_size: labels that MACE takes the mean loss of.
        fast: predicts by compiled code; None: the model does.

    Returns:
        Loss, force MAE in eV/Å, energy MAE in eV per atom.
    """
    member.show_weights(training=False)
    with default_dtype(member.spec.dtype):
        metrics = MACELoss(loss_fn=member.loss).to(member.device)
    output = member.outputs
    # Code for forces knows no stress.
    fast = None if output["virials"] or output["stress"] else fast
    done = 0
    while done < len(valid_set):
        at_once = max(1, member.memory_limit.at_most // batch_size) * batch_size
        graphs = valid_set[done : done + at_once]
        batch = collate(graphs).to(member.device)
        eager = partial(_predict, member, batch, output)
        try:
            prediction = fast.predict(member, batch, eager) if fast else eager()
        except torch.cuda.OutOfMemoryError:
            if len(graphs) <= batch_size or not member.memory_limit.shrink(len(graphs)):
                raise
            continue
        for part, predicted in _batches(graphs, batch, prediction, batch_size):
            metrics.update(part, predicted)
        done += len(graphs)
        yield
    loss, errors = metrics.compute()
    return float(loss), float(errors["mae_f"]), float(errors["mae_e_per_atom"])


def _batches(
    graphs: list[AtomicData], batch: Any, prediction: ModelOutput, size: int
) -> Iterator[tuple[Any, ModelOutput]]:
    """Take apart what was predicted together: MACE's loss depends on the size of its batches."""
    if len(graphs) <= size:
        yield batch, prediction
        return
    atoms = batch.ptr.tolist()
    for first in range(0, len(graphs), size):
        last = min(first + size, len(graphs))
        rows = {name: slice(first, last) for name in ("energy", "virials", "stress")}
        rows["forces"] = slice(atoms[first], atoms[last])
        part = {
            name: None if (values := prediction.get(name)) is None else values[own]
            for name, own in rows.items()
        }
        yield collate(graphs[first:last]).to(batch.positions.device), part


def _predict(member: Member, batch: Any, output: Mapping[str, bool]) -> ModelOutput:
    """What the averaged weights say about labels."""
    with member.averaged_weights(), preserve_grad_state(member.model):
        prediction: ModelOutput = member.model(
            batch.to_dict(),
            training=False,
            compute_force=output["forces"],
            compute_virials=output["virials"],
            compute_stress=output["stress"],
        )
    return prediction
