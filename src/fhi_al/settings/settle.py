"""What the input files say together: checks between them, and which of two settings is in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fhi_al.md.uncertainty import UNCERTAINTIES
from fhi_al.procedures.samplings import SAMPLINGS
from fhi_al.procedures.stop import (
    CONVERGE_STOP_CRITERIA,
    INITIAL_STOP_CRITERIA,
    STOP_CRITERIA,
)
from fhi_al.settings import control_in
from fhi_al.settings.active_learning import ActiveLearning
from fhi_al.settings.base import AL_FILE, MACE_FILE, shown
from fhi_al.settings.control_in import ControlIn
from fhi_al.settings.engine import ReferenceSettings
from fhi_al.settings.geometries import Geometry
from fhi_al.settings.inputs import (
    ActiveLearningFile,
    ConvergenceSettings,
    elements_of,
)
from fhi_al.settings.mace import MaceSettings, Training
from fhi_al.settings.md import MdSettings
from fhi_al.settings.reference import ENGINES
from fhi_al.settings.trajectories import Trajectory


def engine_problems(
    reference: ReferenceSettings | None,
    control: ControlIn | None,
    geometries: Sequence[Geometry],
) -> list[str]:
    """Say what of the geometries, and of control.in, the reference engine can't do."""
    if reference is None:
        return []
    problems = []
    if not reference.repeats_along_all:
        advice = "; use another structure, or another engine."
        problems = [text + advice for text in _strange_periodicities(reference, geometries)]
    if control is not None:
        structures = [geometry.structure for geometry in geometries]
        periodic = any(structure.periodic for structure in structures)
        problems += reference.control_problems(control, elements_of(structures), periodic)
    return problems


def engine_warnings(
    reference: ReferenceSettings | None, geometries: Sequence[Geometry]
) -> list[str]:
    """Say which geometries the reference engine takes for something else."""
    if reference is None or not reference.repeats_along_all:
        return []
    advice = ", and repeats it along all three: leave enough vacuum between the images."
    return [text + advice for text in _strange_periodicities(reference, geometries)]


def _strange_periodicities(
    reference: ReferenceSettings, geometries: Sequence[Geometry]
) -> Iterator[str]:
    for geometry in geometries:
        n = int(geometry.structure.pbc.sum())
        if n not in reference.periodicities:
            yield (
                f"{geometry.name}: it repeats along {n} of its lattice vectors, but the engine "
                f"{reference.engine} computes only {' and '.join(reference.kinds())}"
            )


def geometry_problems(
    md: Sequence[MdSettings], geometries: Sequence[Geometry], trajectories: Sequence[Trajectory]
) -> list[str]:
    """Say which atoms overlap, or are far from the rest, where a trajectory starts."""
    from fhi_al.atoms.pairs import flown_off, too_close

    problems = []
    # The first trajectories start from one geometry each.
    for geometry, trajectory in zip(geometries, trajectories, strict=False):
        limits, structure = md[trajectory.section], geometry.structure
        numbers, positions = structure.numbers, structure.positions
        cell, pbc = structure.cell, structure.pbc
        found = [
            too_close(numbers, positions, cell, pbc, limits.min_distance_factor),
            None if structure.periodic else flown_off(numbers, positions, limits.max_separation_A),
        ]
        names = ("min_distance_factor", "max_separation_A")
        problems += [
            f"{geometry.name}: {what}; correct the coordinates (in Å), or MD.{name} in {AL_FILE}."
            for what, name in zip(found, names, strict=True)
            if what
        ]
    return problems


def energy_problems(mace: MaceSettings, geometries: Sequence[Geometry]) -> list[str]:
    """Say which elements of the geometries have no atomic energy."""
    energies = mace.architecture.atomic_energies
    if not isinstance(energies, dict):
        return []
    return [
        f"{MACE_FILE}: ARCHITECTURE.atomic_energies has no energy of {element}, which is in "
        f"{geometry.name}; add it, or write `atomic_energies: auto`."
        for geometry in geometries
        for element in elements_of([geometry.structure])
        if element not in energies
    ]


def stress_problems(
    mace: MaceSettings, reference: ReferenceSettings | None, geometries: Sequence[Geometry]
) -> list[str]:
    """Say that the loss needs a stress that there won't be."""
    loss = mace.training.loss
    if loss not in ("stress", "virials"):
        return []
    if not any(geometry.structure.periodic for geometry in geometries):
        why = "a molecule has none"
    elif not mace.general.compute_stress:
        why = "GENERAL.compute_stress is false"
    elif reference is not None and not reference.has_stress:
        why = f"the engine {reference.engine} gives none"
    else:
        return []
    return [
        f"{MACE_FILE}: TRAINING.loss: got {loss!r}, which needs stress, but {why}; use `weighted`."
    ]


def settle(
    mace: MaceSettings, al: ActiveLearningFile, warnings: list[str]
) -> tuple[MaceSettings, ActiveLearningFile, ConvergenceSettings]:
    """Decide between settings that say the same thing, so that both copies of each are equal."""
    training, active = mace.training, al.active_learning
    for old, new in (
        ("patience", "patience"),
        ("max_num_epochs", "max_final_epochs"),
        ("valid_fraction", "valid_ratio"),
    ):
        if training.given(old) and not active.given(new):
            active = active.model_copy(update={new: getattr(training, old)})
        else:
            _warn_if_outvoted(training, old, active, new, warnings)
            training = training.model_copy(update={old: getattr(active, new)})
    if training.given("eval_interval") and not active.given("valid_skip"):
        eval_interval = training.eval_interval
    else:
        _warn_if_outvoted(training, "eval_interval", active, "valid_skip", warnings)
        eval_interval = active.valid_skip
        training = training.model_copy(update={"eval_interval": eval_interval})
    convergence = ConvergenceSettings(
        patience=active.patience if "patience" in active.converge_stop_when else None,
        max_epochs=active.max_final_epochs,
        eval_interval=eval_interval,
        swa=training.swa,
        on=active.converge_on,
    )
    mace, al = replace(mace, training=training), replace(al, active_learning=active)
    implied = not al.parallel.asynchronous and not al.misc.given("deterministic")
    if al.misc.deterministic or implied:
        mace, al = _deterministic(mace, al, warnings)
    return mace, al, convergence


def _warn_if_outvoted(
    training: Training, old: str, active: ActiveLearning, new: str, warnings: list[str]
) -> None:
    loser, winner = getattr(training, old), getattr(active, new)
    if training.given(old) and loser != winner:
        warnings.append(
            f"TRAINING.{old} ({loser}) in {MACE_FILE} and ACTIVE_LEARNING.{new} ({winner}) in "
            f"{AL_FILE} are both given; {winner} is used."
        )


def _deterministic(
    mace: MaceSettings, al: ActiveLearningFile, warnings: list[str]
) -> tuple[MaceSettings, ActiveLearningFile]:
    if mace.general.given("default_dtype") and mace.general.default_dtype != "float64":
        warnings.append(
            f"GENERAL.default_dtype ({mace.general.default_dtype}) in {MACE_FILE}: deterministic "
            "runs use float64."
        )
    general = mace.general.model_copy(update={"default_dtype": "float64"})
    reference = al.reference
    if reference is not None:
        for name, value in reference.history_free.items():
            if reference.given(name) and getattr(reference, name) != value:
                warnings.append(
                    f"REFERENCE.{name} ({shown(getattr(reference, name)).lower()}) in {AL_FILE}: "
                    "deterministic runs start each calculation afresh."
                )
        reference = reference.model_copy(update=dict(reference.history_free))
    if mace.misc.evaluation == "fast":
        warnings.append(f"MISC.evaluation (fast) in {MACE_FILE}: deterministic runs are eager.")
    misc = al.misc.model_copy(update={"deterministic": True})
    return replace(mace, general=general), replace(al, reference=reference, misc=misc)


def no_effect(mace: MaceSettings, al: ActiveLearningFile, control: ControlIn | None) -> list[str]:
    """List what the user wrote and this run does not use."""
    active = al.active_learning
    unused = []
    if mace.training.forces_weight == 0:
        unused.append(
            f"{MACE_FILE}: TRAINING.forces_weight is 0: no forces are learned, and the "
            "uncertainty, which is the spread of the forces, may mean little."
        )
    if not mace.misc.restart_latest:
        unused.append(
            f"{MACE_FILE}: MISC.restart_latest: false has no effect; to start afresh, "
            "start in another folder."
        )
    if not al.misc.create_restart:
        unused.append(
            f"{AL_FILE}: MISC.create_restart: false has no effect; every run can be restarted."
        )
    for settings in al.md:
        unused += [
            f"{AL_FILE}: MD.{name} has no effect with {why}." for name, why in settings.unused()
        ]
    if active.driver == "member" and any(settings.bias_strength for settings in al.md):
        unused.append(
            f"{AL_FILE}: MD.bias_strength has no effect with `driver: member`: the bias needs all "
            "models at every step."
        )
    unused += _of_other_choices(active)
    if al.reference is None:
        return unused
    for name in {key: None for choice in ENGINES.values() for key in choice.section.manual_keys}:
        if active.given(name) and name not in al.reference.manual_keys:
            unused.append(
                f"{AL_FILE}: ACTIVE_LEARNING.{name} has no effect with the engine "
                f"{al.reference.engine}."
            )
    if control is None or al.reference.reads_control:
        return unused
    if names := control.unused_keywords():
        counts = (("charge", al.reference.charges), ("spin", al.reference.spins))
        taken = " and ".join(name for name, does in counts if does)
        unused.append(
            f"{control_in.FILE}: the engine {al.reference.engine} takes "
            f"{f'only {taken}' if taken else 'nothing'} from it; not used: {', '.join(names)}."
        )
    return unused


def _of_other_choices(active: ActiveLearning) -> Iterator[str]:
    """Say which settings of ACTIVE_LEARNING are for choices that were not made."""
    chosen = (active.initial_sampling,) if active.initial_model_file is None else ()
    for setting, registry, names in (
        ("initial_sampling", SAMPLINGS, chosen),
        ("uncertainty", UNCERTAINTIES, (active.uncertainty,)),
        ("initial_stop_when", INITIAL_STOP_CRITERIA, active.initial_stop_when),
        ("stop_when", STOP_CRITERIA, active.stop_when),
        ("converge_stop_when", CONVERGE_STOP_CRITERIA, active.converge_stop_when),
    ):
        for name, others in registry.without_effect(*names).items():
            if active.given(name):
                yield (
                    f"{AL_FILE}: ACTIVE_LEARNING.{name} has no effect without "
                    f"`{setting}: {' or '.join(others)}`."
                )
