"""How a command joins the run in its folder: a new one, or one to go on with."""

from __future__ import annotations

import dataclasses
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fhi_al import __version__
from fhi_al.analysis.progress import Progress
from fhi_al.errors import InputError, JournalError
from fhi_al.procedures.reading import read_rules
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.run import begun, step, unfinished_before
from fhi_al.procedures.samplings import sampling
from fhi_al.procedures.state import State
from fhi_al.record.events import Goal, Opened
from fhi_al.record.journal import Journal, no_collection
from fhi_al.settings import Inputs
from fhi_al.settings.base import Section
from fhi_al.settings.inputs import flat_settings


def rules_of(inputs: Inputs) -> Rules:
    """The part of the settings that decides the course of the run.

    A rule that has the name of a setting of ACTIVE_LEARNING is that setting; the others are worked
    out here.
    """
    al = inputs.al.active_learning
    systems = tuple(t.system for t in inputs.trajectories[: al.num_trajectories])
    worked_out = {
        "asynchronous": inputs.al.parallel.asynchronous and not inputs.deterministic,
        "auto_atomic_energies": inputs.mace.architecture.atomic_energies == "auto",
        "valid_ratio": inputs.valid_ratio,
        "initial_method": sampling(al.initial_sampling).method,
        "initial_target": al.initial_accuracy_factor * al.desired_acc,
        "converge_imported": al.converge_initial,
        "audit_every": al.sanity_skip if al.analysis else 0,
        "converge_on": inputs.convergence.on,
        "max_final_epochs": inputs.convergence.max_epochs,
        "final_patience": al.patience,
        "n_geometries": len(inputs.geometries),
        "reference_groups": inputs.al.parallel.reference_groups,
        "threshold_systems": systems if al.threshold_scope == "system" else (),
    }
    return Rules(**matching(Rules, al, worked_out))


def matching(rules: type, section: Section, worked_out: Mapping[str, Any]) -> dict[str, Any]:
    """Values for all fields of a class of rules.

    Args:
        rules: a dataclass.
        section: of the settings; its fields are taken where a rule has the same name.
        worked_out: the other rules.

    Raises:
        TypeError: a rule has no value, or a value has no rule.
    """
    names = {field.name for field in dataclasses.fields(rules)}
    if strange := worked_out.keys() - names:
        raise TypeError(f"{rules.__name__} has no {min(strange)}")
    given = {name: getattr(section, name) for name in names & type(section).model_fields.keys()}
    found = {**given, **worked_out}
    if missing := names - found.keys():
        raise TypeError(f"nothing says what {min(missing)} of {rules.__name__} is")
    return found


# What models, walkers and stored labels were made with. To change it is to begin another run.
_FIXED_SECTIONS = ("ARCHITECTURE.",)
_FIXED = {
    "ACTIVE_LEARNING.ensemble_size",
    "ACTIVE_LEARNING.initial_data",
    "ACTIVE_LEARNING.initial_foundational_size",
    "ACTIVE_LEARNING.initial_models",
    "ACTIVE_LEARNING.initial_sampling",
    "GENERAL.checkpoints_dir",
    "GENERAL.default_dtype",
    "GENERAL.seed",
    "MD.seed",
    "MD.stat_ensemble",
    "MD.thermostat",
    "TRAINING.amsgrad",
    "TRAINING.optimizer",
    "TRAINING.scaling",
    "TRAINING.weight_decay",
}


def opening(goal: Goal, inputs: Inputs, digest: str, run: str) -> Opened:
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
        run=run,
        inputs={
            **flat_settings(inputs),
            "geometries": [geometry.digest for geometry in inputs.geometries],
        },
    )


@dataclass(frozen=True)
class Joined:
    """A run as a command finds it.

    Attributes:
        state: with which the command starts.
        opened: the event with which it begins.
        changes: settings that are other than before, in words.
        progress: up to this command.
    """

    state: State
    opened: Opened
    changes: tuple[str, ...]
    progress: Progress


@no_collection()
def join_run(journal: Journal, goal: Goal, inputs: Inputs, digest: str) -> Joined:
    """Find out with which state this command starts.

    Raises:
        InputError: the journal is of a run with other settings, or of one at another point.
    """
    past = [event for event in journal if isinstance(event, Opened)]
    run = past[0].run if past else secrets.token_hex(3)
    opened = opening(goal, inputs, digest, run)
    state, progress = None, Progress()
    try:
        for record in journal.records:
            state = step(state, record.event)
            progress.take(state, record.event, record.time)
    except (ValueError, TypeError, LookupError) as error:
        raise JournalError(
            f"{journal.path}: another version of the program has written it ({error}); go on with "
            "that version, or start in another folder"
        ) from error
    if past:
        assert state is not None
        # Of a recalculation, the name of the journal says all that must not change.
        if goal != "recalculate" and (forbidden := _forbidden(past[0], opened, state)):
            raise InputError(
                f"{journal.path}: this folder holds a run with other settings ("
                + "; ".join(forbidden)
                + "). Put them back to go on with it, or start in another folder"
            )
    changes = tuple(_differences(past[-1], opened)) if past else ()
    if state is not None and (first := unfinished_before(state, goal)) is not None:
        raise InputError(
            f"{journal.path}: {first.words} in this folder is not finished; run {first.command} "
            "(or FHI_AL) first"
        )
    return Joined(step(state, opened), opened, changes, progress)


def _forbidden(first: Opened, opened: Opened, state: State) -> list[str]:
    """What has changed and must not, in words."""
    found = [
        f"{name} was {old}, is {new}"
        for name, old, new in (
            ("the reference engine's digest", first.engine[:12], opened.engine[:12]),
            ("the elements", " ".join(first.elements), " ".join(opened.elements)),
            ("the number of atoms", first.n_atoms, opened.n_atoms),
        )
        if old != new
    ]
    old, new = first.settings["ensemble_size"], opened.settings["ensemble_size"]
    if old != new and not first.inputs:
        found.append(f"ACTIVE_LEARNING.ensemble_size was {old}, is {new}")
    found += _differences(first, opened, fixed=True)
    rules = read_rules(opened.settings)
    for stage in begun(state):
        found += stage.refusals(stage.own(state), rules)
    return found


def _differences(before: Opened, now: Opened, *, fixed: bool = False) -> Iterator[str]:
    """Settings that differ, in words; all, or those that must not."""
    if not before.inputs:
        return
    same_engine = before.engine == now.engine
    for name in dict.fromkeys([*before.inputs, *now.inputs]):
        # Those of the reference matter as far as its digest does.
        forbidden = (
            re.sub(r"\[\d+\]", "", name) in _FIXED  # of one MD section among several, too
            or name == "geometries"
            or name.startswith(_FIXED_SECTIONS)
            or (name.startswith("REFERENCE.") and not same_engine)
        )
        # A setting that only one of two versions of the program knows says nothing.
        if name in before.inputs and name in now.inputs and (forbidden or not fixed):
            old, new = before.inputs[name], now.inputs[name]
            if old != new:
                yield f"{name} was {old}, is {new}"
