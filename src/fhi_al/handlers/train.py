"""`Train`: training of a committee, in slices of one optimizer step."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

import torch

from fhi_al.ensemble.fast_gradients import FastGradients
from fhi_al.ensemble.fast_validation import FastValidation
from fhi_al.ensemble.members import Committee
from fhi_al.ensemble.preparation import prepare
from fhi_al.ensemble.train_member import EpochRecord, train_member
from fhi_al.folder.run_folder import RunFolder
from fhi_al.record.effects import Train
from fhi_al.record.events import Trained


def train(
    effect: Train,
    folder: RunFolder,
    committee: Committee | None,
    device: str | torch.device,
    writes: Sequence[int] | None = None,
    fast: FastGradients | None = None,
    validation: FastValidation | None = None,
) -> Generator[None, None, tuple[Committee, Trained]]:
    """Carry out a `Train`; yields after every optimizer step and every batch of validation.

    Args:
        effect: what to do.
        folder: with the labels; gets the checkpoint, named `effect.id`.
        committee: is brought to `effect.weights` if it isn't there, and trained; None: a new one.
            If the generator is closed early, the committee knows that it is at no checkpoint.
        device: where a new one lives.
        writes: the members whose part of the checkpoint is written here; None: all. The other
            parts are written by the ranks that train those members.
        fast: computes gradients by compiled code; None: they stay eager.
        validation: predicts by compiled code; None: that stays eager.

    Returns:
        The committee, and the event, when the checkpoint is on the disk.
    """
    began = time.monotonic()
    entries = tuple(effect.entries)  # labels that arrive from here on are not seen
    committee = committee or Committee(folder.inputs, torch.device(device))
    sets = prepare(effect, entries, folder, committee)
    committee.weights = None
    for checked in (fast, validation):
        if checked is not None:
            checked.doubt()
    history: list[EpochRecord] = []
    for index in effect.members:
        train_set, valid_set = sets[index]
        history += yield from train_member(
            committee, index, effect, train_set, valid_set, fast, validation
        )
    committee.save(folder, effect.id, writes)
    return committee, Trained(
        effect=effect.id,
        weights=effect.id,
        members=tuple(member.state for member in committee.members),
        trained=effect.members,
        epochs=effect.epochs,
        n_entries=len(entries),
        history=tuple(history),
        seconds=time.monotonic() - began,
    )
