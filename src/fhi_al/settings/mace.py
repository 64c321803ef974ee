"""`mace_settings.yaml`: the models and their training, with MACE's names and conventions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from fhi_al.settings.base import (
    Count,
    Fraction,
    NonNegative,
    NonNegativeInteger,
    Number,
    Positive,
    RunPath,
    Section,
    Seed,
)

Interaction = Literal[
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticAttResidualInteractionBlock",
    "RealAgnosticInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
]
InteractionFirst = Literal[
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
]
Device = Literal["auto", "cpu", "cuda", "mps", "xpu"]


def _literal(value: Any) -> Any:
    """Read a list or dictionary written as text, as MACE's command line takes it."""
    if isinstance(value, str):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return value


def _none_by_name(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() == "none" else value


def _no_gate(value: Any) -> Any:
    return "None" if value is None else value


class General(Section):
    """GENERAL: names, folders, precision and seed."""

    name_exp: Annotated[str, Field(pattern=r"^[\w.+-]+$")] = "model"
    """Name of the experiment; models and datasets are named after it. No spaces or slashes."""

    log_dir: RunPath = Path()
    """Folder of the log files `initial_dataset.log` and `AL.log`."""

    checkpoints_dir: RunPath = Path("checkpoints")
    """Folder of the checkpoints written during training."""

    results_dir: RunPath = Path("results")
    """Folder of the training histories."""

    model_dir: RunPath = Path("model")
    """Folder of the final models."""

    default_dtype: Literal["float32", "float64"] = "float32"
    """Precision of the models. Molecular dynamics keeps its own state in float64 either way."""

    compute_stress: bool = True
    """Whether periodic systems get a stress: labelled, stored in the data, predicted by the models.
    It enters the loss with `loss: stress`, `virials` or `universal`. No effect on molecules."""

    seed: Seed = 42
    """Seed of parameters, batches and, through them, of every ensemble member."""


class Architecture(Section):
    """ARCHITECTURE: the network, with the names of MACE."""

    atomic_energies: dict[str, Number] | Literal["auto"] | None = None
    """Energies of the isolated atoms in eV (E0s), as `symbol or atomic number: energy`. `auto`
    computes them with the reference engine first. If not given they are fitted to the data."""

    model: Literal["MACE", "ScaleShiftMACE"] = "ScaleShiftMACE"
    """Type of model: with ScaleShiftMACE scale and shift act on the interaction energy alone."""

    r_max: Positive = 5.0
    """Cutoff of the neighbour graph in Å."""

    num_channels: Count = 64
    """Number of channels of the messages."""

    max_L: NonNegativeInteger = 1
    """Highest degree L of the equivariant messages; 0 is fastest."""

    max_ell: NonNegativeInteger = 3
    """Highest degree l of the spherical harmonics."""

    radial_type: Literal["bessel", "gaussian", "chebyshev"] = "bessel"
    """Type of the radial basis functions."""

    num_radial_basis: Count = 8
    """Number of radial basis functions."""

    num_cutoff_basis: Count = 5
    """Order p of the polynomial cutoff function."""

    interaction: Interaction = "RealAgnosticResidualInteractionBlock"
    """Interaction block of all layers but the first."""

    num_interactions: Count = 2
    """Number of layers."""

    correlation: Count = 3
    """Correlation order of each layer; body order minus one."""

    radial_MLP: Annotated[tuple[Count, ...], BeforeValidator(_literal), Field(min_length=1)] = (
        64,
        64,
        64,
    )
    """Widths of the radial network's hidden layers."""

    gate: Annotated[Literal["silu", "tanh", "abs", "None"], BeforeValidator(_no_gate)] = "silu"
    """Non-linearity of the last readout."""

    MLP_irreps: Annotated[str, Field(pattern=r"^[1-9]\d{0,5}x0e$")] = "16x0e"
    """Hidden irreps of the last readout's network: scalars, such as 16x0e."""

    interaction_first: InteractionFirst = "RealAgnosticResidualInteractionBlock"
    """Interaction block of the first layer."""

    compute_avg_num_neighbors: bool = True
    """Whether messages are normalised by the mean number of neighbours in the first training set.
    Otherwise by 1."""

    @field_validator("atomic_energies", mode="before")
    @classmethod
    def _symbols(cls, value: Any) -> Any:
        value = _none_by_name(_literal(value))
        if value is None or value == "auto":
            return value
        if not isinstance(value, dict):
            raise ValueError("expected `symbol: energy in eV` pairs, auto, or nothing")
        return _energies(value)


def _energies(value: dict[Any, Any]) -> dict[str, float]:
    from ase.data import atomic_numbers, chemical_symbols

    energies: dict[str, float] = {}
    for key, energy in value.items():
        number = atomic_numbers.get(key, 0) if isinstance(key, str) else key
        if isinstance(key, str) and key.isdecimal():
            number = int(key)
        known = isinstance(number, int) and not isinstance(number, bool)
        if not known or not 0 < number < len(chemical_symbols):
            raise ValueError(f"{key!r} is neither a chemical symbol nor an atomic number")
        symbol = chemical_symbols[number]
        if symbol in energies:
            raise ValueError(f"{symbol} is there twice")
        try:
            energies[symbol] = float(energy)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"expected a number of eV for {key!r}") from None
    return energies


class Training(Section):
    """TRAINING: optimizer, losses and schedule, with the names of MACE."""

    valid_fraction: Fraction = 0.1
    """Share of the labels that is set aside for validation. Another name of
    `ACTIVE_LEARNING.valid_ratio`, which wins where both are given: validation labels are set aside
    as they arrive, so that none is ever trained on."""

    batch_size: Count = 5
    """Structures in a training batch."""

    valid_batch_size: Count = 10
    """Structures in a validation batch. A GPU evaluates as many batches together as it has memory
    for."""

    weight_decay: NonNegative = 5e-7
    """Weight decay (L2 penalty)."""

    lr: Positive = 0.01
    """Learning rate."""

    amsgrad: bool = True
    """Whether Adam uses its AMSGrad variant."""

    optimizer: Literal["adam", "adamw", "schedulefree"] = "adam"
    """Optimizer. `schedulefree` needs the package schedulefree."""

    scheduler: Literal["ReduceLROnPlateau", "ExponentialLR"] = "ReduceLROnPlateau"
    """Scheduler of the learning rate."""

    scaling: Literal["std_scaling", "rms_forces_scaling", "no_scaling"] = "rms_forces_scaling"
    """How scale and shift of the energies are taken from the first training set."""

    lr_scheduler_gamma: Annotated[Number, Field(gt=0, le=1)] = 0.9993
    """Factor of the learning rate in each epoch (ExponentialLR)."""

    lr_factor: Fraction = 0.8
    """Factor of the learning rate on a plateau (ReduceLROnPlateau)."""

    scheduler_patience: NonNegativeInteger = 50
    """Validations without improvement before the learning rate falls (ReduceLROnPlateau)."""

    swa: bool = False
    """Whether the convergence stage ends with MACE's stage two: stochastic weight averaging with
    a larger weight of the energy."""

    ema: bool = True
    """Whether predictions use the exponential moving average of the weights."""

    ema_decay: Fraction = 0.99
    """Decay of that average in each optimizer step."""

    max_num_epochs: Count = 500
    """Most epochs of the convergence stage. Another name of `ACTIVE_LEARNING.max_final_epochs`,
    which wins where both are given."""

    loss: Literal[
        "weighted",
        "ef",
        "forces_only",
        "virials",
        "stress",
        "huber",
        "universal",
        "l1l2energyforces",
    ] = "weighted"
    """Loss function."""

    energy_weight: NonNegative = 1.0
    """Weight of the energy in the loss."""

    forces_weight: NonNegative = 100.0
    """Weight of the forces in the loss."""

    virials_weight: NonNegative = 1.0
    """Weight of the virials in the loss (`loss: virials`)."""

    stress_weight: NonNegative = 1.0
    """Weight of the stress in the loss (`loss: stress` or `universal`)."""

    config_type_weights: Annotated[dict[str, NonNegative], BeforeValidator(_literal)] = Field(
        default={"Default": 1.0}
    )
    """Weight of structures by their `config_type`."""

    patience: Count = 50
    """Epochs without improvement before convergence stops. Another name of
    `ACTIVE_LEARNING.patience`, which wins where both are given."""

    clip_grad: Annotated[Positive | None, BeforeValidator(_none_by_name)] = 10.0
    """Largest norm of the gradient; nothing: not clipped."""

    eval_interval: Count = 1
    """Epochs between two validations in the convergence stage. `ACTIVE_LEARNING.valid_skip` wins
    where both are given."""

    def disagreements(self) -> Iterator[str]:
        """Refuse a loss that is zero whatever the model predicts."""
        energy_free = self.loss == "forces_only" or self.energy_weight == 0
        if self.forces_weight == 0 and energy_free:
            yield "energy and forces have no weight in the loss; give one of the two."
        if self.swa and self.loss == "forces_only":
            yield (
                "swa can't be had with `loss: forces_only`: it ends training with a larger weight "
                "of the energy; use `loss: weighted`, or leave swa out."
            )


class MaceMisc(Section):
    """MISC: device, checkpoints and output."""

    device: Device = "auto"
    """Where the models run; `auto`: a GPU if there is one."""

    evaluation: Literal["auto", "eager", "fast"] = "auto"
    """How models are evaluated and trained. `eager`: by MACE itself. `auto`: by faster code where
    there is time to compile it and it turns out right and faster; on a GPU, forces are recorded as
    a CUDA graph. `fast`: by such code as soon as it can be had, even if it is slower; wrong code is
    never used. Deterministic runs are eager."""

    enable_cueq: bool | None = None
    """Whether NVIDIA's cuEquivariance computes the forces on a GPU. Nothing: where it is installed
    (`cuequivariance-torch` and `cuequivariance-ops-torch-cu12`). Not in deterministic runs."""

    keep_checkpoints: NonNegativeInteger = 0
    """Keep every k-th superseded set of checkpoints. `true` keeps all, and
    all states of the trajectories; `false` or 0 none."""

    restart_latest: bool = True
    """A run that was cut off always goes on where it stood; `false` is accepted without effect."""

    error_table: Literal[
        "PerAtomRMSE",
        "TotalRMSE",
        "PerAtomRMSEstressvirials",
        "PerAtomMAEstressvirials",
        "PerAtomMAE",
        "TotalMAE",
    ] = "PerAtomMAE"
    """Errors in the tables of the log."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """How much is written to the log."""

    @field_validator("keep_checkpoints", mode="before")
    @classmethod
    def _flag(cls, value: Any) -> Any:
        return int(value) if isinstance(value, bool) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


@dataclass(frozen=True)
class MaceSettings:
    """All of `mace_settings.yaml`."""

    general: General = field(default_factory=General)
    architecture: Architecture = field(default_factory=Architecture)
    training: Training = field(default_factory=Training)
    misc: MaceMisc = field(default_factory=MaceMisc)
