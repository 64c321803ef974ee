"""`active_learning_settings.yaml`: ACTIVE_LEARNING, PARALLEL and MISC."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fhi_al.md.uncertainty import UNCERTAINTIES
from fhi_al.procedures.samplings import SAMPLINGS
from fhi_al.procedures.stop import (
    CONVERGE_STOP_CRITERIA,
    INITIAL_STOP_CRITERIA,
    STOP_CRITERIA,
    StopCriterion,
    defaults,
)
from fhi_al.record.registry import Registry
from fhi_al.settings.base import (
    Among,
    AnyCase,
    Count,
    Fraction,
    NonNegative,
    Number,
    OneOf,
    Positive,
    RunFile,
    RunFiles,
    RunPath,
    RunPaths,
    Section,
    expand_path,
)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _with_a_sure_one(criteria: Registry[StopCriterion]) -> AfterValidator:
    sure = [name for name, criterion in criteria.items() if criterion.sure]

    def check(names: tuple[str, ...]) -> tuple[str, ...]:
        if not set(sure) & set(names):
            raise ValueError(
                f"expected {' or '.join(sure)} among them: without, the stage might never end"
            )
        return tuple(dict.fromkeys(names))

    return AfterValidator(check)


class ActiveLearning(Section):
    """ACTIVE_LEARNING: the initial dataset, active learning and convergence."""

    renamed: ClassVar[Mapping[str, str]] = {"lambda": "initial_accuracy_factor"}

    desired_acc: Positive = 0.03
    """Force MAE in eV/Å on the validation sets, mean over the ensemble, at which active learning
    has reached its goal."""

    initial_accuracy_factor: Positive = 2.5
    """The initial dataset is done at a force MAE of this factor times desired_acc.
    Old name: `lambda`."""

    n_samples: Count = 5
    """Structures sampled for each member in each round of the initial dataset."""

    valid_ratio: Fraction = 0.1
    """Share of the labels that goes to the validation sets."""

    converge_initial: bool = False
    """Whether to converge the models on the initial dataset; those of initial_models, too: this is
    how to fine-tune a foundation model."""

    converge_al: bool = True
    """Whether to converge the models after active learning."""

    converge_best: bool = True
    """Whether the convergence after active learning takes only the best member (lowest force MAE on
    validation), or all."""

    converge_on: Literal["union", "own"] = "union"
    """What convergence trains on: all labels of the run, or each member's own."""

    scheduler_initial: bool = True
    """Whether the learning-rate scheduler works while the initial dataset is made."""

    initial_stop_when: Annotated[
        tuple[Annotated[str, OneOf(INITIAL_STOP_CRITERIA)], ...],
        BeforeValidator(_listed),
        _with_a_sure_one(INITIAL_STOP_CRITERIA),
    ] = defaults(INITIAL_STOP_CRITERIA)
    """What ends the initial dataset, whichever comes first. `epochs` must be among them."""

    max_initial_epochs: Count = 200
    """Most epochs of training while the initial dataset is made."""

    initial_intermediate_epochs: Count = 20
    """Epochs of training after each round of sampling of the initial dataset."""

    max_initial_set_size: Count | None = None
    """Labels, over all members, at which the initial dataset ends (`initial_stop_when: set_size`);
    nothing: no limit."""

    max_epochs_worker: Count = 20
    """Most epochs of training before a trajectory that added a training label samples again. It
    goes on earlier, after one training with its label, where the reference would run out of work
    and all training together keeps pace: max_epochs_worker epochs for num_trajectories labels."""

    converge_stop_when: Annotated[
        tuple[Annotated[str, OneOf(CONVERGE_STOP_CRITERIA)], ...],
        BeforeValidator(_listed),
        _with_a_sure_one(CONVERGE_STOP_CRITERIA),
    ] = defaults(CONVERGE_STOP_CRITERIA)
    """What ends a convergence, of the initial or of the final models, whichever comes first.
    `epochs` must be among them."""

    max_final_epochs: Count = 500
    """Most epochs of the convergence stage."""

    intermediate_epochs: Count = 5
    """Epochs of one training slice during active learning."""

    patience: Count = 50
    """Epochs without improvement before convergence stops (`converge_stop_when: patience`)."""

    stop_when: Annotated[
        tuple[Annotated[str, OneOf(STOP_CRITERIA)], ...],
        BeforeValidator(_listed),
        _with_a_sure_one(STOP_CRITERIA),
    ] = defaults(STOP_CRITERIA)
    """What ends active learning, whichever comes first. `trajectories` must be among them."""

    max_MD_steps: Count = 20000
    """Most MD steps of each trajectory of active learning."""

    max_set_size: Count = 500
    """Size of the training set at which active learning ends (`stop_when: set_size`)."""

    valid_skip: Count = 1
    """Epochs between two validations."""

    sanity_skip: Count = 1000
    """MD steps of a trajectory between two sanity checks with the reference (with `analysis`)."""

    ensemble_size: Annotated[Count, Field(ge=2)] = 4
    """Number of models; their spread is the uncertainty."""

    threshold_factor: Positive = 1.0
    """A structure is labelled when its uncertainty exceeds this factor f times the moving
    average."""

    c_x: Annotated[Number | None, Field(lt=1, exclude=True)] = None
    """Old way to give threshold_factor, which it is turned into by the manual's formula
    f = 1 - c_x. The original program, aims-PAX and VASP's ML_CX compute 1 + c_x: give
    threshold_factor to be sure."""

    dataset_dir: RunPath = Path("data")
    """Folder of the datasets."""

    geometry: RunPaths = (Path("geometry.in"),)
    """Where trajectories start: a file, a list of files, or a folder of files. `*.in` is FHI-aims'
    format; in all others that ASE reads, every structure counts. Trajectories are dealt over the
    structures in turn, which may differ in size, composition and cell."""

    threshold_scope: Literal["all", "system"] = "all"
    """Whether all trajectories share one threshold, or those of each system (chemical formula)
    have their own."""

    driver: Literal["committee", "member"] = "committee"
    """Whose forces move the atoms: the mean of all models, or the first model alone while the
    others are asked at uncertainty checks only. The second takes little more than one model's
    time; it is noisier, and where that model is wrong nobody tells before the next check."""

    skip_step_initial: Count = 25
    """MD steps between two samples of the initial dataset."""

    skip_step_mlff: Count = 10
    """MD steps between two uncertainty checks in active learning."""

    num_trajectories: Count = 4
    """Trajectories of active learning."""

    species_dir: RunPath | None = None
    """Folder with the species defaults of FHI-aims; see REFERENCE.species_dir."""

    aims_lib_path: RunPath | None = None
    """The compiled FHI-aims library, not an executable; see REFERENCE.library."""

    margin: NonNegative = 1e-4
    """Smallest drop of the validation loss that counts as an improvement."""

    analysis: bool = False
    """Whether to make sanity checks and save losses, errors and uncertainties of the whole run."""

    initial_sampling: Annotated[str, Among(SAMPLINGS)] = "mace-mp0"
    """Where the initial structures come from, or the path of a MACE model file that is to move
    them. Crystals are also strained by `perturb`."""

    initial_foundational_size: Annotated[Literal["small", "medium", "large"], AnyCase] = "small"
    """Size of the foundation model with `initial_sampling: mace-mp0`."""

    perturb_displacement_A: Positive = 0.1
    """Standard deviation of the random displacements along x, y and z, in Å (`perturb`)."""

    perturb_strain: Annotated[NonNegative, Field(lt=0.5)] = 0.03
    """Standard deviation of the components of the random strain of a crystal (`perturb`)."""

    uncertainty: Annotated[str, OneOf(UNCERTAINTIES)] = "max_atomic_sd"
    """Uncertainty of a structure, in eV/Å."""

    uncertainty_window: Count = 400
    """Number of newest uncertainties that the moving average is taken over."""

    uncertainty_warmup: Count = 10
    """Number of uncertainties before there is a threshold."""

    max_checks_without_label: Count = 500
    """Checks without a crossing after which a trajectory is labelled all the same."""

    min_valid_size: Count = 10
    """Fewest validation structures for desired_acc to end a stage."""

    max_failed_fraction: Fraction = 0.5
    """Share of failed reference calculations at which the run ends with an error."""

    max_label_starts: Count = 3
    """Times that a structure may crash the reference library before it is rejected. Only crashes
    that leave a mark count, no kills from outside. See faults.md."""

    max_net_force_eV_per_A: Positive = 0.1
    """Largest net force on a molecule, in eV/Å, with which a label is taken; in theory there is
    none."""

    max_energy_deviation_eV_per_atom: Positive = 5.0
    """A label whose energy is farther than this from the median of its composition is kept aside as
    an outlier. Where the energies are spread widely, ten times their spread is allowed."""

    test_set: RunFile | None = None
    """File of structures with energies and forces (any format of ASE) to measure the final errors
    on. Nothing is trained or chosen with it."""

    initial_data: RunFiles | None = None
    """Labelled structures (files in any format of ASE) for `FHI_AL-al` to start from, in place of
    an initial dataset made here."""

    initial_models: RunFiles | None = None
    """MACE models for `FHI_AL-al` to start from, one for each ensemble member. Where there are
    ARCHITECTURE.atomic_energies, these take the place of the models' own. Such files are pickles:
    they can run code, so name only files that you trust."""

    @model_validator(mode="before")
    @classmethod
    def _factor_from_c_x(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "threshold_factor" in data:
            return data
        c_x: Any = data.get("c_x")
        try:
            if isinstance(c_x, bool) or not -math.inf < float(c_x) < 1:
                return data  # the field's own checks say what is wrong
        except (TypeError, ValueError, OverflowError):
            return data
        others = {key: value for key, value in data.items() if key != "c_x"}
        return {**others, "threshold_factor": 1 - float(c_x)}

    @field_validator("initial_sampling")
    @classmethod
    def _method_or_file(cls, value: str, info: ValidationInfo) -> str:
        if value.lower() in SAMPLINGS:
            return value.lower()
        path = expand_path(value, info)
        if not os.path.isfile(path):
            near = difflib.get_close_matches(value.lower(), SAMPLINGS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is no file {path}"
            raise ValueError(
                f"expected one of {', '.join(SAMPLINGS)}, or the path of a MACE model file ({hint})"
            )
        return str(path)

    def disagreements(self) -> Iterator[str]:
        """Refuse what contradicts itself: two factors, or fewer models than members."""
        if self.c_x is not None:
            yield (
                f"c_x ({self.c_x}) and threshold_factor ({self.threshold_factor}) are both given; "
                "keep threshold_factor, the factor of the moving average itself."
            )
        if self.initial_models is not None and len(self.initial_models) != self.ensemble_size:
            yield (
                f"initial_models: got {len(self.initial_models)} files, expected ensemble_size = "
                f"{self.ensemble_size}."
            )

    @property
    def initial_model_file(self) -> Path | None:
        """The user's MACE model that samples initial structures, if one does."""
        return None if self.initial_sampling in SAMPLINGS else Path(self.initial_sampling)


class Parallel(Section):
    """PARALLEL: how the ranks of `mpirun` share the work."""

    ml_ranks: Count | Literal["auto"] | None = None
    """Ranks for molecular dynamics and training. Nothing: one for each GPU of the first node, and
    one without a GPU. `auto`: without a GPU, also the ranks that would idle in the groups of a
    reference that uses one rank of each (see REFERENCE)."""

    reference_groups: Count = 1
    """Groups of ranks that each drive one reference engine."""

    asynchronous: bool = True
    """Whether the kinds of work overlap. `false`: one after the other, which implies
    `MISC.deterministic` unless that is set."""

    @field_validator("ml_ranks", mode="before")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        # One sentence, not one for each type that it might have.
        if value in (None, "auto") or (type(value) is int and value >= 1):
            return value
        raise ValueError("expected a whole number >= 1, or auto")


class Misc(Section):
    """MISC: restart, reproducibility and the report."""

    create_restart: bool = True
    """Every run can be restarted; `false` is accepted without effect."""

    deterministic: bool = False
    """Whether two runs with the same input and ranks give the same labels: float64, a fixed path of
    computation, no reuse of the density."""

    finish_reference: bool = False
    """Whether a command that is asked to stop waits for the reference calculations in work, however
    long they take. `false`: it stops within 20 s, and they begin again with the next command."""

    report: bool = True
    """Whether a run ends by writing results/report.html and results/figures (a few seconds).
    FHI_AL-report writes them at any time."""
