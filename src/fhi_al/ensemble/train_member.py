"""Training of one member: the rules of its stage, its epochs and optimizer steps."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from mace.data import AtomicData
from mace.tools.train import take_step

from fhi_al.ensemble.data import collate, shuffled
from fhi_al.ensemble.fast_gradients import FastGradients, KnownGradient
from fhi_al.ensemble.fast_validation import FastValidation
from fhi_al.ensemble.member import CONVERGENCE_STAGES, Member
from fhi_al.ensemble.members import Committee
from fhi_al.ensemble.validation import validate
from fhi_al.errors import FhiAlError
from fhi_al.record.effects import Train
from fhi_al.record.events import Stage
from fhi_al.settings import Inputs

log = logging.getLogger(__name__)

EpochRecord = tuple[int, int, float, float, float, float]
"""(member, epoch, loss, valid_loss, force_mae, energy_mae)"""


@dataclass(frozen=True)
class StageRules:
    """The rules of a stage.

    Attributes:
        eval_interval: epochs between two validations.
        margin: drop of the validation loss that counts as an improvement.
        scheduled: whether the scheduler of the learning rate works.
        converges: whether the best weights are kept, and patience ends the training.
        patience: epochs without improvement; None: they don't count.
        stage_two: epoch of the stage in which MACE's stage two (SWA) begins, or None.
    """

    eval_interval: int
    margin: float
    scheduled: bool
    converges: bool
    patience: int | None
    stage_two: int | None


def stage_rules(stage: Stage, inputs: Inputs, start_swa: int | None) -> StageRules:
    """The rules of a stage, from the settings.

    Args:
        stage: which.
        inputs: with the settings.
        start_swa: epoch at which stage two begins, as MACE chooses it, or None.
    """
    rules, settings = inputs.convergence, inputs.al.active_learning
    converges = stage in CONVERGENCE_STAGES
    return StageRules(
        eval_interval=rules.eval_interval if converges else settings.valid_skip,
        margin=settings.margin,
        scheduled=converges or (stage == "initial_dataset" and settings.scheduler_initial),
        converges=converges,
        patience=rules.patience,
        stage_two=start_swa if converges and rules.swa else None,
    )


def train_member(
    committee: Committee,
    index: int,
    effect: Train,
    train_set: list[AtomicData],
    valid_set: list[AtomicData],
    fast: FastGradients | None = None,
    validation: FastValidation | None = None,
) -> Generator[None, None, list[EpochRecord]]:
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
    rules = stage_rules(effect.stage, committee.inputs, member.options.start_swa)
    begin(member, effect, rules)
    member.update(n_train=len(train_set), n_valid=len(valid_set))
    if not train_set:
        log.warning("Member %d has no training label yet.", index)
    elif fast is not None:
        fast.begin(train_set, settings.batch_size)
    history: list[EpochRecord] = []
    for left in reversed(range(effect.epochs)):
        if _is_done(member, rules):
            break
        _schedule(member, rules)
        loss = yield from train_epoch(member, train_set, settings.batch_size, fast)
        if not math.isfinite(loss):
            raise FhiAlError(
                f"The training of member {index} diverged: its loss is {loss} after epoch "
                f"{member.state.epoch + 1}. Lower TRAINING.lr or TRAINING.clip_grad in "
                "mace_settings.yaml, and look for labels with absurd energies or forces."
            )
        epoch, stage_epoch = member.state.epoch + 1, member.progress.stage_epoch + 1
        member.update(epoch=epoch, stage_epoch=stage_epoch, loss=loss)
        if valid_set and (left == 0 or stage_epoch % rules.eval_interval == 0):
            errors = yield from validate(member, valid_set, settings.valid_batch_size, validation)
            _judge(member, rules, *errors)
            history.append((index, epoch, loss, *errors))
    return history


def begin(member: Member, effect: Train, rules: StageRules) -> None:
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
        member.set_schedule(scheduled=rules.scheduled)
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


def _is_done(member: Member, rules: StageRules) -> bool:
    """Whether patience ends a convergence; with stage two ahead, it only begins that earlier."""
    progress = member.progress
    if not rules.converges:
        return False
    impatient = rules.patience is not None and progress.state.stale_epochs >= rules.patience
    if rules.stage_two is None or progress.stage_two:
        return impatient
    if impatient or progress.stage_epoch >= rules.stage_two:
        member.begin_stage_two()
    return False


def _schedule(member: Member, rules: StageRules) -> None:
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
    member.show_weights(training=True)
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
    if known is not None:
        return _step_along(member, known)
    began = time.perf_counter()
    loss, _ = take_step(
        model=member.model,
        loss_fn=member.loss,
        batch=collate(graphs),
        optimizer=member.optimizer,
        ema=member.ema,
        output_args=member.outputs,
        max_grad_norm=member.options.clip_grad,
        device=member.device,
    )
    if fast is not None:
        fast.spend(time.perf_counter() - began)
    return float(loss.detach())


def _step_along(member: Member, known: KnownGradient) -> float:
    """What MACE's `take_step` does when it has the gradient."""
    member.optimizer.zero_grad(set_to_none=True)
    for parameter, gradient in zip(known.parameters, known.gradients, strict=True):
        # A copy, as clipping writes to it.
        parameter.grad = gradient.clone(memory_format=torch.contiguous_format)
    if member.options.clip_grad is not None:
        torch.nn.utils.clip_grad_norm_(known.parameters, member.options.clip_grad)
    member.optimizer.step()
    if member.ema is not None:
        member.ema.update()
    return float(known.loss)


def _judge(
    member: Member, rules: StageRules, loss: float, force_mae: float, energy_mae: float
) -> None:
    """Take a validation into account: best weights, epochs without improvement."""
    progress, state = member.progress, member.state
    reference = progress.reference_loss
    improved = reference is None or loss < reference - rules.margin
    if state.best_loss is None or loss < state.best_loss:
        member.update(best_loss=loss)
        if rules.converges:
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
