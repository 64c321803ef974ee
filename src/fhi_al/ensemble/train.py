"""Training, in slices of one optimizer step, with MACE's own step, losses and schedulers."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mace.data import AtomicData
from mace.tools.train import MACELoss, preserve_grad_state, take_step

from fhi_al.effects import Train
from fhi_al.ensemble.architecture import default_dtype
from fhi_al.ensemble.data import (
    STRESS_LOSSES,
    Counts,
    Graphs,
    collate,
    count,
    loader,
    member_keys,
    shuffled,
)
from fhi_al.ensemble.fast_gradients import FastGradients
from fhi_al.ensemble.fast_validation import FastValidation, Prediction
from fhi_al.ensemble.member import CONVERGENCE_STAGES, Member
from fhi_al.ensemble.members import Committee, atomic_energies, new_members
from fhi_al.errors import FhiAlError
from fhi_al.events import Entry, Stage, Trained
from fhi_al.run_folder import RunFolder
from fhi_al.settings import Inputs

log = logging.getLogger(__name__)

Record = tuple[int, int, float, float, float, float]
"""(member, epoch, loss, valid_loss, force_mae, energy_mae)"""
Slices = Generator[None, None, Any]


@dataclass(frozen=True)
class Plan:
    """The rules of a stage.

    Attributes:
        eval_interval: epochs between two validations.
        margin: drop of the validation loss that counts as an improvement.
        scheduled: whether the scheduler of the learning rate works.
        converges: whether the best weights are kept, and patience ends the training.
        patience: epochs without improvement.
        stage_two: epoch of the stage in which MACE's stage two (SWA) begins, or None.
    """

    eval_interval: int
    margin: float
    scheduled: bool
    converges: bool
    patience: int
    stage_two: int | None


def plan_of(stage: Stage, inputs: Inputs, start_swa: int | None) -> Plan:
    """The rules of a stage, from the settings.

    Args:
        stage: which.
        inputs: with the settings.
        start_swa: epoch at which stage two begins, as MACE chooses it, or None.
    """
    rules, settings = inputs.convergence, inputs.al.active_learning
    converges = stage in CONVERGENCE_STAGES
    return Plan(
        eval_interval=rules.eval_interval if converges else settings.valid_skip,
        margin=settings.margin,
        scheduled=converges or (stage == "initial_dataset" and settings.scheduler_initial),
        converges=converges,
        patience=rules.patience,
        stage_two=start_swa if converges and rules.swa else None,
    )


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
    history: list[Record] = []
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


def prepare(
    effect: Train, entries: Sequence[Entry], folder: RunFolder, committee: Committee
) -> dict[int, tuple[list[AtomicData], list[AtomicData]]]:
    """Have the models and the data of a training.

    Args:
        effect: what is to be done.
        entries: the datasets, in journal order.
        folder: with labels and checkpoints.
        committee: is loaded or built.

    Returns:
        Training and validation set of each member that trains.
    """
    size = committee.inputs.al.active_learning.ensemble_size
    every = [member_keys(entries, index, union=effect.union)[0] for index in range(size)]
    keys = list(dict.fromkeys(key for own in every for key in own))
    if effect.weights is None:
        committee.members = new_members(committee, folder, keys, effect.atomic_energies)
    else:
        committee.load(folder, effect.weights)
    graphs = committee.graphs(folder)
    _refit_energies(effect, folder, committee, graphs, keys)
    sets = {}
    for index in effect.members:
        own, valid = member_keys(entries, index, union=effect.union)
        sets[index] = graphs.of(own), graphs.of(valid)
        member = committee.members[index]
        found = count(sets[index][0], committee.inputs.mace.training)
        if effect.weights is None or effect.fresh or member.progress.stage != effect.stage:
            log.info("%s", describe_data(index, found, len(valid)))
        member.update(n_energies=found.energies, n_forces=found.forces, n_stresses=found.stress)
        if committee.inputs.mace.training.forces_weight and found.structures and not found.forces:
            raise FhiAlError(
                f"None of the {found.structures} training labels of member {index} has forces that "
                "count in the loss. Look at TRAINING.config_type_weights in mace_settings.yaml, "
                "or set TRAINING.forces_weight to 0 to train on energies alone."
            )
        if committee.inputs.mace.training.loss in STRESS_LOSSES and not found.stress:
            log.warning(
                "TRAINING.loss is %s, but no training label of member %d has a stress: only "
                "energies and forces are learned.",
                committee.inputs.mace.training.loss,
                index,
            )
    return sets


def describe_data(index: int, found: Counts, n_valid: int) -> str:
    """Say what a member trains on."""
    return (
        f"member {index} trains on {found.structures} structures: {found.energies} with energy, "
        f"{found.forces} with forces, {found.stress} with stress in the loss; is validated on "
        f"{n_valid}"
    )


def _refit_energies(
    effect: Train, folder: RunFolder, committee: Committee, graphs: Graphs, keys: Sequence[str]
) -> None:
    """Fit the E0s again when an element turns up that no label of the first fit had."""
    first = committee.members[0]
    fitted = first.progress.fitted_elements
    if not fitted or len(fitted) == len(first.spec.elements):
        return
    present = {
        z
        for graph in graphs.of(keys)
        for z, there in zip(first.spec.elements, graph.node_attrs.any(dim=0), strict=True)
        if there
    }
    if present <= set(fitted):
        return
    energies, fitted = atomic_energies(committee.inputs, effect.atomic_energies, folder, keys)
    log.info("New elements in the data: E0s are now %s eV, all optimizers are reset.", energies)
    for member in committee.members:
        member.set_atomic_energies(energies, fitted)


# --- one member ------------------------------------------------------------------------------


def train_member(
    committee: Committee,
    index: int,
    effect: Train,
    train_set: list[AtomicData],
    valid_set: list[AtomicData],
    fast: FastGradients | None = None,
    validation: FastValidation | None = None,
) -> Generator[None, None, list[Record]]:
    """Train one member for the epochs of an effect, or until its patience ends.

    Args:
        committee: that it belongs to.
        index: which member.
        effect: what to do.
        train_set: what it is trained on.
        valid_set: what it is validated on.
        fast: see `train`.
        validation: see `train`.

    Returns:
        One record a validation.
    """
    member, settings = committee.members[index], committee.inputs.mace.training
    plan = plan_of(effect.stage, committee.inputs, member.options.start_swa)
    begin(member, effect, plan)
    member.update(n_train=len(train_set), n_valid=len(valid_set))
    if not train_set:
        log.warning("Member %d has no training label yet.", index)
    elif fast is not None:
        fast.begin(train_set, settings.batch_size)
    history: list[Record] = []
    for left in reversed(range(effect.epochs)):
        if _is_done(member, plan):
            break
        _schedule(member, plan)
        loss = yield from train_epoch(member, train_set, settings.batch_size, fast)
        if not math.isfinite(loss):
            raise FhiAlError(
                f"The training of member {index} diverged: its loss is {loss} after epoch "
                f"{member.state.epoch + 1}. Lower TRAINING.lr or TRAINING.clip_grad in "
                "mace_settings.yaml, and look for labels with absurd energies or forces."
            )
        epoch, stage_epoch = member.state.epoch + 1, member.progress.stage_epoch + 1
        member.update(epoch=epoch, stage_epoch=stage_epoch, loss=loss)
        if valid_set and (left == 0 or stage_epoch % plan.eval_interval == 0):
            errors = yield from validate(member, valid_set, settings.valid_batch_size, validation)
            _judge(member, plan, *errors)
            history.append((index, epoch, loss, *errors))
    return history


def begin(member: Member, effect: Train, plan: Plan) -> None:
    """Get a member ready for an effect, and for a stage where one begins.

    A stage goes on with the optimizer, the raw weights and their average: for ethanol (60 labels,
    two seeds) a convergence that began with a new optimizer had the test error of one that went on,
    or up to 10% more, after a spike of twice the error; new models were a fifth worse. Only after a
    convergence are the best weights the start, and as they are not those that the optimizer knows,
    it is new. The learning rate is that of the settings again.
    """
    if effect.fresh or member.progress.stage != effect.stage:
        if member.best is not None:
            member.start_from_delivered()
            member.reset_optimizer()
        for group in member.optimizer.param_groups:
            group["lr"] = member.options.lr
        member.set_schedule(scheduled=plan.scheduled)
        member.update(
            stage=effect.stage,
            stage_epoch=0,
            validated_epoch=member.state.epoch,
            best_force_mae=None,
            best_loss=None,
            reference_loss=None,
            stale_epochs=0,
        )
    if effect.reset_optimizer:
        member.reset_optimizer()


def _is_done(member: Member, plan: Plan) -> bool:
    """Whether patience ends a convergence; with stage two ahead, it only begins that earlier."""
    progress = member.progress
    if not plan.converges:
        return False
    impatient = progress.state.stale_epochs >= plan.patience
    if plan.stage_two is None or progress.stage_two:
        return impatient
    if impatient or progress.stage_epoch >= plan.stage_two:
        member.begin_stage_two()
    return False


def _schedule(member: Member, plan: Plan) -> None:
    """Set the learning rate of the epoch that begins, as MACE does."""
    with warnings.catch_warnings():
        # After a restart, torch doesn't know that the optimizer has made steps already.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        if member.stage_two_scheduler is not None:
            member.stage_two_scheduler.step()
        elif member.scheduler is not None and member.progress.stage_epoch > 0:
            state = member.state
            member.scheduler.step(
                metrics=state.loss if state.valid_loss is None else state.valid_loss
            )


def train_epoch(
    member: Member,
    train_set: list[AtomicData],
    batch_size: int,
    fast: FastGradients | None = None,
) -> Generator[None, None, float]:
    """Train for one epoch.

    Returns:
        Mean training loss over the structures; 0 where there are none.
    """
    if not train_set:
        return 0.0
    _schedule_free(member, training=True)
    total = 0.0
    for graphs in shuffled(train_set, batch_size, member.generator):
        total += len(graphs) * step(member, graphs, fast)
        yield
    return total / len(train_set)


def step(member: Member, graphs: Sequence[AtomicData], fast: FastGradients | None = None) -> float:
    """One optimizer step: loss, its gradient, clipping, the optimizer, the average.

    Returns:
        The loss before the step, per structure.
    """
    known = fast.of(member, graphs) if fast is not None else None
    began = time.perf_counter()
    loss, _ = take_step(
        model=known or member.model,
        loss_fn=known.loss if known else member.loss,
        batch=known or collate(graphs),
        optimizer=member.optimizer,
        ema=member.ema,
        output_args=_output(member),
        max_grad_norm=member.options.clip_grad,
        device=member.device,
    )
    if fast is not None and known is None:
        fast.spend(time.perf_counter() - began)
    return float(loss.detach())


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
    _schedule_free(member, training=False)
    with default_dtype(member.spec.dtype):
        metrics = MACELoss(loss_fn=member.loss).to(member.device)
    output = _output(member)
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


def _judge(member: Member, plan: Plan, loss: float, force_mae: float, energy_mae: float) -> None:
    """Take a validation into account: best weights, epochs without improvement."""
    progress, state = member.progress, member.state
    reference = progress.reference_loss
    improved = reference is None or loss < reference - plan.margin
    if state.best_loss is None or loss < state.best_loss:
        member.update(best_loss=loss)
        if plan.converges:
            member.best = [weight.clone() for weight in member.averaged()]
    best_mae = force_mae if state.best_force_mae is None else min(force_mae, state.best_force_mae)
    member.update(
        valid_loss=loss,
        force_mae=force_mae,
        energy_mae=energy_mae,
        best_force_mae=best_mae,
        reference_loss=loss if improved else reference,
        stale_epochs=0 if improved else state.stale_epochs + state.epoch - progress.validated_epoch,
        validated_epoch=state.epoch,
    )


def _output(member: Member) -> dict[str, bool]:
    """What the loss needs from the model."""
    name = member.options.loss
    virials = name == "virials"
    return {"forces": True, "virials": virials, "stress": name in STRESS_LOSSES and not virials}


def _schedule_free(member: Member, *, training: bool) -> None:
    """Tell the schedule-free optimizer, if it is that, which of its two weights to show."""
    if member.options.optimizer == "schedulefree":
        optimizer: Any = member.optimizer
        optimizer.train() if training else optimizer.eval()
