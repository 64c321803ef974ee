"""How a command joins the run in its folder: a new one, or one to go on with."""

from __future__ import annotations

import socket
import time

from fhi_al import __version__
from fhi_al.errors import InputError
from fhi_al.events import Goal, Opened
from fhi_al.journal import Journal
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.run import fold, step
from fhi_al.procedures.state import State
from fhi_al.settings import Inputs


def rules_of(inputs: Inputs) -> Rules:
    """The part of the settings that decides the course of the run."""
    al = inputs.al.active_learning
    sampling = al.initial_sampling
    return Rules(
        asynchronous=inputs.al.parallel.asynchronous and not inputs.deterministic,
        ensemble_size=al.ensemble_size,
        auto_atomic_energies=inputs.mace.architecture.atomic_energies == "auto",
        valid_ratio=inputs.valid_ratio,
        min_valid_size=al.min_valid_size,
        max_failed_fraction=al.max_failed_fraction,
        initial_method=(
            "aimd" if sampling == "aimd" else "perturb" if sampling == "perturb" else "foundation"
        ),
        n_samples=al.n_samples,
        skip_step_initial=al.skip_step_initial,
        initial_target=al.initial_accuracy_factor * al.desired_acc,
        initial_intermediate_epochs=al.initial_intermediate_epochs,
        max_initial_epochs=al.max_initial_epochs,
        max_initial_set_size=al.max_initial_set_size,
        converge_initial=al.converge_initial,
        desired_acc=al.desired_acc,
        num_trajectories=al.num_trajectories,
        skip_step_mlff=al.skip_step_mlff,
        max_MD_steps=al.max_MD_steps,
        max_set_size=al.max_set_size,
        max_epochs_worker=al.max_epochs_worker,
        intermediate_epochs=al.intermediate_epochs,
        patience=al.patience,
        margin=al.margin,
        threshold_factor=al.threshold_factor,
        uncertainty_window=al.uncertainty_window,
        uncertainty_warmup=al.uncertainty_warmup,
        max_checks_without_label=al.max_checks_without_label,
        audit_every=al.sanity_skip if al.analysis else 0,
        converge_al=al.converge_al,
        converge_best=al.converge_best,
        converge_on=inputs.convergence.on,
        max_final_epochs=inputs.convergence.max_epochs,
        final_patience=inputs.convergence.patience,
        n_geometries=len(inputs.geometries),
        threshold_systems=tuple(t.system for t in inputs.trajectories[: al.num_trajectories])
        if al.threshold_scope == "system"
        else (),
    )


def opening(goal: Goal, inputs: Inputs, digest: str) -> Opened:
    """The event with which a command begins."""
    return Opened(
        goal=goal,
        settings=rules_of(inputs).to_json(),
        engine=digest,
        version=__version__,
        n_atoms=len(inputs.structure),
        elements=inputs.elements,
        host=socket.gethostname(),
        time=time.time(),
        geometries=tuple((geometry.name, geometry.digest) for geometry in inputs.geometries),
    )


def join_run(journal: Journal, goal: Goal, inputs: Inputs, digest: str) -> State:
    """The state with which this command starts.

    Raises:
        InputError: the journal is of a run with other settings, or of one at another point.
    """
    opened = opening(goal, inputs, digest)
    first = next(iter(journal), None)
    if isinstance(first, Opened):
        differences = [
            f"{name} was {old}, is {new}"
            for name, old, new in (
                ("the reference engine's digest", first.engine[:12], digest[:12]),
                ("the elements", " ".join(first.elements), " ".join(opened.elements)),
                ("the number of atoms", first.n_atoms, opened.n_atoms),
                *_changed_geometries(first, opened),
                *(
                    (f"ACTIVE_LEARNING.{name}", first.settings[name], opened.settings[name])
                    for name in ("ensemble_size", "num_trajectories")
                ),
            )
            if old != new
        ]
        if differences:
            raise InputError(
                f"{journal.path}: this folder holds a run with other settings ("
                + "; ".join(differences)
                + "). Put them back to go on with it, or start in another folder"
            )
    state = fold(journal)
    if goal == "active_learning" and state is not None and _initial_unfinished(state):
        raise InputError(
            f"{journal.path}: the initial dataset in this folder is not finished; "
            "run FHI_AL-initial-ds (or FHI_AL) first"
        )
    return step(state, opened)


def _changed_geometries(first: Opened, opened: Opened) -> list[tuple[str, object, object]]:
    """What is different, if the run knows what its trajectories started from."""
    old, new = first.geometries, opened.geometries
    if not old or [digest for _, digest in old] == [digest for _, digest in new]:
        return []
    if len(old) != len(new):
        return [("the number of geometries", len(old), len(new))]
    return [
        (f"the geometry {i} ({name})", old_digest[:8], digest[:8])
        for i, ((_, old_digest), (name, digest)) in enumerate(zip(old, new, strict=True))
        if old_digest != digest
    ]


def _initial_unfinished(state: State) -> bool:
    unfinished = ("atomic_energies", "initial_dataset", "converge_initial")
    return state.stage in unfinished and not state.imported
