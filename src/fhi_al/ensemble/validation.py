"""Validation of a member: its loss and errors on labels that it isn't trained on."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

from mace.data import AtomicData
from mace.tools.train import MACELoss, preserve_grad_state

from fhi_al.ensemble.architecture import default_dtype
from fhi_al.ensemble.data import loader
from fhi_al.ensemble.fast_validation import FastValidation, Prediction
from fhi_al.ensemble.member import Member


def validate(
    member: Member,
    valid_set: list[AtomicData],
    batch_size: int,
    fast: FastValidation | None = None,
) -> Generator[None, None, tuple[float, float, float]]:
    """Measure a member, with its averaged weights.

    Returns:
        Loss, force MAE in eV/Å, energy MAE in eV per atom.
    """
    member.show_weights(training=False)
    with default_dtype(member.spec.dtype):
        metrics = MACELoss(loss_fn=member.loss).to(member.device)
    output = member.outputs
    # Code for forces knows no stress.
    fast = None if output["virials"] or output["stress"] else fast
    for batch in loader(valid_set, batch_size):
        batch = batch.to(member.device)
        eager = partial(_predict, member, batch, output)
        metrics.update(batch, fast.predict(member, batch, eager) if fast else eager())
        yield
    loss, errors = metrics.compute()
    return float(loss), float(errors["mae_f"]), float(errors["mae_e_per_atom"])


def _predict(member: Member, batch: Any, output: Mapping[str, bool]) -> Prediction:
    """What the averaged weights say about labels."""
    with member.averaged_weights(), preserve_grad_state(member.model):
        prediction: Prediction = member.model(
            batch.to_dict(),
            training=False,
            compute_force=output["forces"],
            compute_virials=output["virials"],
            compute_stress=output["stress"],
        )
    return prediction
