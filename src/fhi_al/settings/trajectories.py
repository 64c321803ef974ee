"""Which trajectory starts from which geometry, and moves by which settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fhi_al.md.protocol import MdProtocol
from fhi_al.settings.base import AL_FILE
from fhi_al.settings.geometries import Geometry, system_names
from fhi_al.settings.md import MdSettings


@dataclass(frozen=True)
class Trajectory:
    """A trajectory as the settings have it.

    Attributes:
        geometry: index of the geometry that it starts from.
        system: name of the system that this is; see `system_names`.
        protocol: how it moves.
        section: number of the MD section with its settings.
        velocities: whether it starts with those of the geometry, if that has any.
    """

    geometry: int
    system: str
    protocol: MdProtocol
    section: int
    velocities: bool


def deal_trajectories(
    count: int, geometries: Sequence[Geometry], md: Sequence[MdSettings], problems: list[str]
) -> tuple[Trajectory, ...]:
    """Deal trajectories over geometries, and settings over trajectories.

    Trajectory `i` starts from geometry `i` modulo their number. The first of each geometry has the
    velocities of its file. Settings that name trajectories or geometries go to these; all others
    are dealt to what is left, to the trajectories of each geometry in turn, as is each point of a
    grid of temperatures and pressures.

    Args:
        count: of trajectories.
        geometries: to start from.
        md: the MD sections.
        problems: is extended by a sentence for what can't be dealt.
    """
    before = len(problems)
    systems = system_names(geometries)
    owners = _owners(count, geometries, md, problems)
    if len(problems) > before:
        return ()
    dealt: list[Trajectory] = []
    turns: Counter[tuple[tuple[int, ...], int]] = Counter()
    for i in range(count):
        geometry = i % len(geometries)
        points = [(k, protocol) for k in owners[i] for protocol in md[k].protocols()]
        # Those that name trajectories are dealt in this order, all others geometry by geometry.
        named = all(md[k].trajectories is not None for k in owners[i])
        turn = (owners[i], -1 if named else geometry)
        section, protocol = points[turns[turn] % len(points)]
        seeds = md[section].seed
        protocol = replace(protocol, seed=seeds[i % len(seeds)])
        turns[turn] += 1
        dealt.append(
            Trajectory(geometry, systems[geometry], protocol, section, i < len(geometries))
        )
        if protocol.ensemble == "npt":
            problems += _npt_problems(geometries[geometry])
    return tuple(dealt)


def _owners(
    count: int, geometries: Sequence[Geometry], md: Sequence[MdSettings], problems: list[str]
) -> list[tuple[int, ...]]:
    """For each trajectory, the numbers of the sections that are dealt to it and its like."""
    owners: dict[int, tuple[int, ...]] = {}
    files = [geometry.name.partition("#")[0] for geometry in geometries]
    for k, settings in enumerate(md):
        for name in settings.geometries or ():
            if name not in files and name not in {geometry.name for geometry in geometries}:
                problems.append(
                    f"{AL_FILE}: MD.geometries: got {name!r}, expected one of "
                    f"{', '.join(dict.fromkeys(files))}."
                )
        for i in settings.trajectories or ():
            if i >= count:
                problems.append(
                    f"{AL_FILE}: MD.trajectories: got {i}, expected numbers below "
                    f"num_trajectories ({count})."
                )
            elif i in owners:
                problems.append(f"{AL_FILE}: MD.trajectories: trajectory {i} is named twice.")
            owners[i] = (k,)
    free = tuple(k for k, s in enumerate(md) if s.trajectories is None and s.geometries is None)
    for i in range(count):
        g = i % len(geometries)
        mine = {files[g], geometries[g].name}
        named = tuple(k for k, s in enumerate(md) if mine & set(s.geometries or ()))
        owners.setdefault(i, named or free)
    if without := [i for i in range(count) if not owners[i]]:
        problems.append(
            f"{AL_FILE}: MD: no settings are for the trajectories "
            f"{', '.join(map(str, without))}; name them, or add settings without `trajectories` "
            "and `geometries`."
        )
    return [owners[i] for i in range(count)]


def _npt_problems(geometry: Geometry) -> list[str]:
    structure = geometry.structure
    if not structure.pbc.all():
        return [
            f"{AL_FILE}: MD.stat_ensemble: npt needs a structure that is periodic in all three "
            f"directions, which {geometry.name} is not; use nvt for it."
        ]
    if structure.fixed.any():
        return [
            f"{AL_FILE}: MD.stat_ensemble: npt moves all atoms with the cell, but atoms are fixed "
            f"in {geometry.name}; use nvt for it."
        ]
    return []
