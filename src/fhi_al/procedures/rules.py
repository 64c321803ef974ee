"""The settings that the procedures go by, as plain numbers that fit in the journal."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from fhi_al.procedures.threshold import ThresholdRule


@dataclass(frozen=True)
class Rules:
    """What decides the course of a run; the names are those of the settings.

    Attributes:
        asynchronous: reference, molecular dynamics and training may go on side by side.
        auto_atomic_energies: compute isolated atoms first.
        initial_method: how the initial structures are made.
        initial_target: force MAE in eV/Å that ends the initial dataset.
        audit_every: MD steps between sanity checks, or 0 for none.
        final_patience: epochs without improvement that end the convergence of a member.
        n_geometries: structures that trajectories start from.
        reference_groups: calculations that can go on at the same time.
        converge_imported: train imported models on the imported data first.
        stop_when: stop criteria of active learning; likewise those of the initial dataset and of
            convergences.
        threshold_systems: system of each trajectory, where each system has a threshold of its own;
            else empty.
    """

    asynchronous: bool
    ensemble_size: int
    auto_atomic_energies: bool
    valid_ratio: float
    min_valid_size: int
    max_failed_fraction: float
    # Initial dataset.
    initial_method: Literal["aimd", "foundation", "perturb"]
    n_samples: int
    skip_step_initial: int
    initial_target: float
    initial_intermediate_epochs: int
    max_initial_epochs: int
    max_initial_set_size: int | None
    converge_initial: bool
    # Active learning.
    desired_acc: float
    num_trajectories: int
    skip_step_mlff: int
    max_MD_steps: int
    max_set_size: int
    max_epochs_worker: int
    intermediate_epochs: int
    patience: int
    margin: float
    threshold_factor: float
    uncertainty_window: int
    uncertainty_warmup: int
    max_checks_without_label: int
    audit_every: int
    # Convergence.
    converge_al: bool
    converge_best: bool
    converge_on: Literal["union", "own"]
    max_final_epochs: int
    final_patience: int
    # What ends a stage.
    initial_stop_when: tuple[str, ...]
    stop_when: tuple[str, ...]
    converge_stop_when: tuple[str, ...]
    # Faults.
    max_energy_deviation_eV_per_atom: float = 5.0
    max_label_starts: int = 3
    # Systems.
    n_geometries: int = 1
    reference_groups: int = 1
    threshold_systems: tuple[str, ...] = ()
    # Fine-tuning.
    converge_imported: bool = False

    @property
    def threshold(self) -> ThresholdRule:
        """How the threshold follows from the uncertainties."""
        return ThresholdRule(
            self.threshold_factor, self.uncertainty_window, self.uncertainty_warmup
        )

    @property
    def initial_set_limit(self) -> int | None:
        """Structures at which no more are sampled for the initial dataset; None: no limit."""
        return self.max_initial_set_size if "set_size" in self.initial_stop_when else None

    @property
    def set_limit(self) -> int | None:
        """Size beyond which the training set may not grow in active learning; None: no limit."""
        return self.max_set_size if "set_size" in self.stop_when else None

    @property
    def round_size(self) -> int:
        """Structures sampled between two trainings of the initial dataset."""
        return self.n_samples * self.ensemble_size

    def to_json(self) -> dict[str, Any]:
        """Plain data for the journal, as it is read from there."""
        plain = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}
