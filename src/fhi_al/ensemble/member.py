"""One member of the committee: a model, and all that its training needs."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mace.tools.scripts_utils import (
    LRScheduler,
    get_loss_fn,
    get_optimizer,
    get_params_options,
    get_swa,
)
from torch_ema import ExponentialMovingAverage

from fhi_al.ensemble.architecture import ModelSpec, build_model, mace_options
from fhi_al.ensemble.data import STRESS_LOSSES
from fhi_al.errors import InputError
from fhi_al.fast.splitting import MemoryLimit
from fhi_al.record.events import MemberState
from fhi_al.settings import Inputs

CONVERGENCE_STAGES = ("converge_initial", "convergence")
"""The stages whose outcome is the best weights that were seen, not the last."""

FORMAT = 1
"""Of a checkpoint."""

_NEW = MemberState(
    epoch=0,
    loss=0.0,
    valid_loss=None,
    force_mae=None,
    energy_mae=None,
    best_force_mae=None,
    best_loss=None,
    stale_epochs=0,
    n_train=0,
    n_valid=0,
)


@dataclass(frozen=True)
class TrainingProgress:
    """Where a member's training stands. Plain data.

    Attributes:
        state: what the journal is told.
        stage: of the last training.
        stage_epoch: epochs in that stage.
        validated_epoch: epoch of the last validation.
        reference_loss: the validation loss that the next must be below by `margin`.
        stage_two: whether MACE's stage two (SWA) has begun.
        fitted_elements: elements that the E0s were fitted to; empty where they were given.
    """

    state: MemberState = _NEW
    stage: str = ""
    stage_epoch: int = 0
    validated_epoch: int = 0
    reference_loss: float | None = None
    stage_two: bool = False
    fitted_elements: tuple[int, ...] = ()


def training_options(inputs: Inputs) -> Namespace:
    """The TRAINING section, and the rules of convergence, as options of `mace_run_train`."""
    options = inputs.mace.training.model_dump()
    rules = inputs.convergence
    options.update(swa=rules.swa, max_num_epochs=rules.max_epochs, patience=rules.patience)
    return mace_options(options)


class Member:
    """One model and all that its training needs.

    Args:
        spec: of the model.
        seed: of its weights and of the order of its batches.
        options: see `training_options`.
        device: where it lives.
        model: the model, if it is there already; built from spec and seed otherwise.

    Attributes:
        model: with the raw weights.
        ema: moving average of the weights, or None where the user wants none.
        best: weights with the lowest validation loss of a convergence stage, or None.
        memory_limit: for structures that are validated together.
    """

    def __init__(
        self,
        spec: ModelSpec,
        seed: int,
        options: Namespace,
        device: torch.device,
        model: torch.nn.Module | None = None,
    ) -> None:
        self.spec = spec
        self.seed = seed
        self.options = options
        self.device = device
        self.model = (build_model(spec, seed) if model is None else model).to(device)
        # A processor gains little by larger batches, and the controller waits for their end.
        self.memory_limit = MemoryLimit(device, 1) if device.type == "cpu" else MemoryLimit(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.progress = TrainingProgress()
        self.best: list[torch.Tensor] | None = None
        self.scheduler: LRScheduler | None = None
        self.stage_two_scheduler: Any = None
        self.loss: torch.nn.Module
        self.reset_ema()
        self.reset_optimizer()

    @property
    def state(self) -> MemberState:
        """What the journal is told about the member."""
        return self.progress.state

    def update(self, **changes: Any) -> None:
        """Replace fields of `progress`, and of the state in it, by name."""
        names = {item.name for item in dataclasses.fields(MemberState)}
        state = {name: value for name, value in changes.items() if name in names}
        rest = {name: value for name, value in changes.items() if name not in names}
        self.progress = dataclasses.replace(
            self.progress, state=dataclasses.replace(self.state, **state), **rest
        )

    # --- the parts of training -----------------------------------------------------------------

    def reset_optimizer(self) -> None:
        """Begin with a fresh optimizer state, the learning rate of the settings, and stage one."""
        try:
            self.optimizer = get_optimizer(
                self.options, get_params_options(self.options, self.model)
            )
        except ImportError:
            raise InputError(
                "mace_settings.yaml: TRAINING.optimizer: schedulefree needs a package that is not "
                "installed; install it (pip install schedulefree) or choose adam or adamw."
            ) from None
        self.set_schedule(scheduled=self.scheduler is not None)

    def reset_ema(self) -> None:
        """Begin the moving average anew, from the present weights."""
        self.ema = (
            ExponentialMovingAverage(self.model.parameters(), decay=self.options.ema_decay)
            if self.options.ema
            else None
        )

    def set_schedule(self, *, scheduled: bool) -> None:
        """Begin with stage one's loss; with or without a scheduler of the learning rate."""
        self.scheduler = LRScheduler(self.optimizer, self.options) if scheduled else None
        self.stage_two_scheduler = None
        self.loss = get_loss_fn(self.options, dipole_only=False, compute_dipole=False)
        self.update(stage_two=False)

    def begin_stage_two(self) -> None:
        """Change to the loss and the learning rate of MACE's stage two.

        MACE's own averaged model is not kept: nothing, in MACE neither, ever reads it.
        """
        swa, _ = get_swa(self.options, self.model, self.optimizer, [])
        self.stage_two_scheduler, self.loss = swa.scheduler, swa.loss_fn
        self.best = None
        self.update(stage_two=True, best_loss=None, reference_loss=None, stale_epochs=0)

    @property
    def outputs(self) -> dict[str, bool]:
        """What the loss needs from the model."""
        name = self.options.loss
        virials = name == "virials"
        return {"forces": True, "virials": virials, "stress": name in STRESS_LOSSES and not virials}

    def show_weights(self, *, training: bool) -> None:
        """Tell the schedule-free optimizer, if it is that, which of its two weights to show."""
        if self.options.optimizer == "schedulefree":
            optimizer: Any = self.optimizer
            optimizer.train() if training else optimizer.eval()

    # --- weights -------------------------------------------------------------------------------

    def averaged(self) -> list[torch.Tensor]:
        """The weights to validate with: the moving average, if there is one."""
        weights = self.ema.shadow_params if self.ema else self.model.parameters()
        return [weight.detach() for weight in weights]

    def delivered(self) -> list[torch.Tensor]:
        """The weights to predict with: the best of a convergence stage, else the averaged."""
        return self.averaged() if self.best is None else self.best

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Have the averaged weights in the model for a while."""
        if self.ema is None:
            yield
            return
        with self.ema.average_parameters():
            yield
        self.ema.collected_params = None  # or it would be part of checkpoints

    def start_from_delivered(self) -> None:
        """Make the delivered weights the raw ones, and the start of a new moving average."""
        with torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), self.delivered(), strict=True):
                parameter.copy_(weight)
        self.best = None
        self.reset_ema()

    def set_atomic_energies(self, energies: Sequence[float], fitted: tuple[int, ...]) -> None:
        """Change the E0s, in eV in the order of the elements, and reset the optimizer."""
        self.spec = dataclasses.replace(self.spec, atomic_energies=tuple(energies))
        buffer = self.model.get_buffer("atomic_energies_fn.atomic_energies")
        buffer.copy_(torch.tensor([list(energies)], dtype=torch.float64))
        self.update(fitted_elements=fitted)
        self.reset_optimizer()

    # --- checkpoints ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All of the member: tensors and plain data, loadable with `weights_only`."""
        return {
            "format": FORMAT,
            "spec": dataclasses.asdict(self.spec),
            "seed": self.seed,
            "progress": dataclasses.asdict(self.progress),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "stage_two_scheduler": (
                self.stage_two_scheduler.state_dict() if self.stage_two_scheduler else None
            ),
            "generator": self.generator.get_state(),
        }

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        options: Namespace,
        device: torch.device,
        former: Member | None = None,
    ) -> Member:
        """Rebuild a member, without the data that it was trained on.

        Args:
            state: from `state_dict`.
            options: of training.
            device: where it lives.
            former: a member that is no longer needed; its model is used again where it fits, as
                building one takes longer than filling it.
        """
        spec = ModelSpec(**state["spec"])
        model = former.model if former is not None and former.spec == spec else None
        member = cls(spec, state["seed"], options, device, model)
        member.model.load_state_dict(state["model"])
        progress = dict(state["progress"], state=MemberState(**state["progress"]["state"]))
        progress["fitted_elements"] = tuple(progress["fitted_elements"])
        member.set_schedule(scheduled=state["scheduler"] is not None)
        if state["stage_two_scheduler"] is not None:
            member.begin_stage_two()
        # Now that they exist: their constructors touch the learning rates.
        member.optimizer.load_state_dict(state["optimizer"])
        if member.scheduler is not None:
            member.scheduler.load_state_dict(state["scheduler"])
        if member.stage_two_scheduler is not None:
            member.stage_two_scheduler.load_state_dict(state["stage_two_scheduler"])
        member.reset_ema()
        if member.ema is not None and state["ema"] is not None:
            member.ema.load_state_dict(state["ema"])
        member.best = state["best"]
        member.generator.set_state(state["generator"].cpu())
        member.progress = TrainingProgress(**progress)
        return member
