"""The work of molecular dynamics: what `Advance`, `Sample` and `ReferenceStep` ask for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from fhi_al.atoms.structure import Label, structure_key
from fhi_al.atoms.voigt import from_voigt
from fhi_al.errors import EngineError, FhiAlError, JournalError
from fhi_al.handlers.beginnings import (
    guard_of,
    sampling_protocol,
    start_learning,
    start_sampling,
)
from fhi_al.handlers.selection import Selection
from fhi_al.handlers.team import LocalPart, Part, Report, follow
from fhi_al.md.drive import Drive
from fhi_al.md.driver import Driver
from fhi_al.md.integrators import Integrator
from fhi_al.md.shard import Frame, Shard
from fhi_al.md.walker import Walkers
from fhi_al.md.walkers_file import load_walkers, save_walkers
from fhi_al.procedures.samplings import sampling
from fhi_al.procedures.threshold import ThresholdRule
from fhi_al.record import effects, events

if TYPE_CHECKING:
    from fhi_al.folder.run_folder import RunFolder
    from fhi_al.settings import Inputs

log = logging.getLogger(__name__)

MAX_SECONDS = 30.0
MAX_CHECKS_DETERMINISTIC = 100
_MAX_BREAKDOWNS = 20


def advance(
    effect: effects.Advance,
    folder: RunFolder,
    driver: Driver,
    team: Sequence[Part] = (),
    hurried: Callable[[], bool] = lambda: False,
) -> Generator[None, None, events.Advanced]:
    """Run molecular dynamics until a structure is chosen, a walker is at its end, or time is up.

    All walkers of the effect move together; those that don't move are carried over into the new
    walkers file. A walker whose structure was chosen stays there, and goes on from there when it
    is moved again.

    Args:
        effect: what to do.
        folder: settings, labels to go back to, and where structures and walkers are written.
        driver: the committee.
        team: parts that other ranks move. Trajectories are dealt round: the first to this
            process, the second to the first of the team, and so on.
        hurried: whether to end at the next check. Where two runs must be the same, this has no
            effect: what is cut short there has to be done again as a whole.

    Yields:
        After every MD step.

    Returns:
        The event, once all that it names is on the disk.
    """
    began = time.monotonic()
    inputs = folder.inputs
    settings = inputs.al.active_learning
    walkers = _walkers(effect, folder, driver)
    own = dealt(effect.trajectories, 1 + len(team), 0)
    parts: list[Part] = [LocalPart(_shard(walkers, own, effect, inputs, driver)), *team]
    rule = ThresholdRule(
        settings.threshold_factor, settings.uncertainty_window, settings.uncertainty_warmup
    )
    systems = [trajectory.system for trajectory in inputs.trajectories]
    per_system = settings.threshold_scope == "system"
    selection = Selection(effect, rule, settings.sanity_skip, systems if per_system else ())
    checks: list[events.Check] = []
    candidates: list[events.Candidate] = []
    steps: dict[int, int] = {}
    reports: list[Report] = []
    steps_left = min(effect.steps_left)
    while steps_left > 0:
        n_steps = min(settings.skip_step_mlff, steps_left)
        steps_left -= n_steps
        for part in parts:
            part.begin(n_steps)
        reports = []
        for part in parts:
            reports.append((yield from part.report()))
        seen = {
            frame.trajectory: (frame, *found)
            for report in reports
            for frame, found in zip(report.frames, report.structures, strict=True)
        }
        frames = [seen[trajectory][0] for trajectory in effect.trajectories]
        steps = {frame.trajectory: frame.step for frame in frames}
        check, chosen = selection.check(frames, n_steps)
        checks.append(check)
        for candidate in chosen:
            _, structure, forces = seen[candidate.trajectory]
            key = folder.structures.put(structure, folder.engine_digest, forces)
            candidates.append(replace(candidate, key=key, composition=structure.composition))
        if any(candidate.blocks for candidate in chosen):
            break
        if inputs.deterministic:
            # Nothing may depend on the clock.
            if len(checks) >= MAX_CHECKS_DETERMINISTIC:
                break
        elif hurried() or time.monotonic() - began > MAX_SECONDS:
            break

    for part in parts:
        part.end()
    for report in reports:
        walkers.assign(report.walkers)
    save_walkers(walkers, folder.walkers(effect.id))
    return events.Advanced(
        effect=effect.id,
        walkers=effect.id,
        trajectories=effect.trajectories,
        steps=tuple(steps[trajectory] for trajectory in effect.trajectories),
        checks=tuple(checks),
        candidates=tuple(candidates),
        seconds=time.monotonic() - began,
        path=driver.path,
    )


def help_advance(
    effect: effects.Advance, folder: RunFolder, driver: Driver, comm: Any
) -> Generator[None, None, None]:
    """Move this rank's share of an `Advance` that another rank leads.

    Args:
        effect: the whole of it.
        folder: settings, and labels to go back to.
        driver: the committee.
        comm: communicator of the ML ranks, whose rank 0 leads.
    """
    own = dealt(effect.trajectories, comm.size, comm.rank)
    walkers = _walkers(effect, folder, driver)
    yield from follow(_shard(walkers, own, effect, folder.inputs, driver), comm)


def dealt(trajectories: Sequence[int], ranks: int, rank: int) -> tuple[int, ...]:
    """The trajectories that one of several ranks moves."""
    return tuple(trajectories[rank::ranks])


def _walkers(effect: effects.Advance, folder: RunFolder, driver: Driver) -> Walkers:
    """All walkers as an `Advance` begins with them."""
    inputs = folder.inputs
    count = inputs.al.active_learning.num_trajectories
    if effect.walkers is None:
        walkers = start_learning(inputs, driver.device)
    else:
        walkers = load_walkers(folder.walkers(effect.walkers), driver.device)
        if len(walkers) < count:
            # The number of trajectories was raised since.
            more = start_learning(inputs, driver.device)
            more.assign(walkers)
            walkers = more
    for reset in effect.resets:
        geometry = inputs.trajectories[reset.trajectory].geometry
        structure = inputs.geometries[geometry].structure
        if reset.key is not None:
            structure = folder.labels.get(reset.key).structure
        walkers.reset(list(walkers.trajectories).index(reset.trajectory), structure)
    return walkers


def _shard(
    walkers: Walkers,
    trajectories: Sequence[int],
    effect: effects.Advance,
    inputs: Inputs,
    driver: Driver,
) -> Shard:
    index = {int(trajectory): i for i, trajectory in enumerate(walkers.trajectories)}
    moving = walkers.select(index[trajectory] for trajectory in trajectories)
    settings = inputs.al.active_learning
    drive = Drive(
        driver,
        moving,
        [inputs.trajectories[trajectory].protocol for trajectory in trajectories],
        settings.uncertainty,
        one_member=settings.driver == "member",
        n_train=effect.n_train,
    )
    return Shard(moving, drive, guard_of(inputs, trajectories))


def sample(
    effect: effects.Sample, folder: RunFolder, driver: Driver | None
) -> Generator[None, None, events.Sampled]:
    """Make structures for the initial dataset.

    Args:
        effect: what to do.
        folder: settings, and where structures and walkers are written.
        driver: the pretrained model, for the method `foundation`.

    Yields:
        After every MD step, or structure.

    Returns:
        The event, once all that it names is on the disk.
    """
    began = time.monotonic()
    if effect.method == "perturb":
        walkers, keys = None, (yield from _perturb(effect, folder))
    else:
        assert driver is not None
        walkers, keys = effect.id, (yield from _sample_trajectory(effect, folder, driver))
    structures = folder.inputs.structures
    return events.Sampled(
        effect=effect.id,
        walkers=walkers,
        keys=tuple(keys),
        seconds=time.monotonic() - began,
        compositions=tuple(
            structures[(effect.first + i) % len(structures)].composition for i in range(len(keys))
        ),
    )


def _perturb(effect: effects.Sample, folder: RunFolder) -> Generator[None, None, list[str]]:
    inputs = folder.inputs
    settings = inputs.al.active_learning
    choice = sampling(settings.initial_sampling)
    make, own = choice.load(), {name: getattr(settings, name) for name in choice.settings}
    keys = []
    for index in range(effect.first, effect.first + effect.count):
        geometry = index % len(inputs.geometries)
        seed = inputs.trajectories[geometry].protocol.seed
        structure = make(inputs.geometries[geometry].structure, seed, index, **own)
        keys.append(folder.structures.put(structure, folder.engine_digest))
        yield
    return keys


def _sample_trajectory(
    effect: effects.Sample, folder: RunFolder, driver: Driver
) -> Generator[None, None, list[str]]:
    inputs = folder.inputs
    everywhere = range(len(inputs.geometries))
    protocols = [sampling_protocol(inputs, geometry) for geometry in everywhere]
    if effect.walkers is None:
        walkers = start_sampling(inputs, everywhere, "foundation", driver.device)
    else:
        walkers = load_walkers(folder.walkers(effect.walkers), driver.device)
    shard = Shard(walkers, Drive(driver, walkers, protocols), guard_of(inputs, everywhere))
    keys: list[str] = []
    breakdowns = 0
    while len(keys) < effect.count:
        frames = yield from shard.advance(inputs.al.active_learning.skip_step_initial)
        # Geometries take turns over all rounds; a frame that isn't wanted any more is left.
        for geometry in everywhere[(effect.first + len(keys)) % len(everywhere) :]:
            frame = frames[geometry]
            if frame.broken:
                # It is back at the sample before, with other velocities; the next try is its.
                breakdowns += 1
                _complain(frame, breakdowns)
                break
            breakdowns = 0
            structure, _ = shard.structure(geometry)
            keys.append(folder.structures.put(structure, folder.engine_digest))
            if len(keys) == effect.count:
                break
    save_walkers(walkers, folder.walkers(effect.id))
    return keys


def reference_step(effect: effects.ReferenceStep, folder: RunFolder) -> events.Sampled:
    """Move the walker of the ab initio MD to its next position.

    The forces there are not known until the reference has been asked, so that the walkers file
    holds a step that is half done; the next call completes it with the label's forces.

    Args:
        effect: what to do; without `walkers`, only the first structure is written.
        folder: settings, labels, and where structures and walkers are written.

    Raises:
        JournalError: the label is not of the walker's present position.
    """
    began = time.monotonic()
    inputs = folder.inputs
    if effect.walkers is None:
        walkers = start_sampling(inputs, [effect.geometry], "reference", "cpu")
    else:
        walkers = load_walkers(folder.walkers(effect.walkers))
        key = structure_key(walkers.structure(0), folder.engine_digest)
        if effect.label != key:
            raise JournalError(
                f"{folder.walkers(effect.walkers)}: the walker is at structure {key}, "
                f"but the label is of {effect.label}"
            )
        label = folder.labels.get(key)
        forces = torch.tensor(label.forces)
        integrator = Integrator(walkers, [sampling_protocol(inputs, effect.geometry)])
        if walkers.half_stepped:
            integrator.finish(walkers, forces)
        integrator.begin(walkers, forces, _stress(label) if integrator.needs_stress else None)
        walkers.half_stepped = True
        walkers.steps[0] = effect.step
    save_walkers(walkers, folder.walkers(effect.id))
    key = folder.structures.put(walkers.structure(0), folder.engine_digest)
    return events.Sampled(
        effect=effect.id,
        walkers=effect.id,
        keys=(key,),
        seconds=time.monotonic() - began,
        geometry=effect.geometry,
    )


def _complain(frame: Frame, breakdowns: int) -> None:
    log.warning(
        "MD with the pretrained model is unstable after step %d: %s; it goes back",
        frame.frontier,
        frame.broken,
    )
    if breakdowns >= _MAX_BREAKDOWNS:
        raise FhiAlError(
            f"MD with the pretrained model broke down {breakdowns} times in a row after "
            f"step {frame.step}, the last time with {frame.broken}: it doesn't know this "
            "system. Choose another ACTIVE_LEARNING.initial_sampling (perturb, aimd), or a "
            "smaller MD.timestep_fs"
        )


def _stress(label: Label) -> torch.Tensor:
    """(1, 3, 3) in eV/Å^3."""
    if label.stress is None:
        raise EngineError(
            "the reference gives no stress, which constant pressure needs; use another "
            "initial_sampling, or nvt"
        )
    return torch.tensor(from_voigt(label.stress)[None])
