"""The structures that trajectories start from: geometry.in, or any files that ASE can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fhi_al.atoms.structure import FloatArray, Structure, structure_key
from fhi_al.errors import InputError
from fhi_al.settings.geometry_in import CLOSEST_A, parse_geometry
from fhi_al.settings.yaml_in import read_text


@dataclass(frozen=True, eq=False)
class Geometry:
    """A structure to start from.

    Attributes:
        name: of the file; with `#` and a number where it holds several structures.
        structure: atoms, cell, what is fixed.
        velocities: (atoms, 3) in Å/fs, or None.
    """

    name: str
    structure: Structure
    velocities: FloatArray | None = None

    @property
    def digest(self) -> str:
        """Says whether two are the same: the structure, and what is fixed in it."""
        key = structure_key(self.structure, "")
        fixed = np.flatnonzero(self.structure.fixed)
        return key[:12] + "".join(f"-{index}" for index in fixed)


def system_names(geometries: Sequence[Geometry]) -> tuple[str, ...]:
    """Name the system of each geometry: its formula, and its periodicity where that differs.

    Structures of the same formula that repeat along the same vectors are one system.
    """
    plain = [geometry.structure.formula for geometry in geometries]
    pbcs = ["".join("xyz"[i] for i in np.flatnonzero(g.structure.pbc)) for g in geometries]
    kinds = Counter(formula for formula, _ in set(zip(plain, pbcs, strict=True)))
    return tuple(
        formula if kinds[formula] == 1 else f"{formula} ({pbc or 'free'})"
        for formula, pbc in zip(plain, pbcs, strict=True)
    )


def read_geometries(paths: Sequence[Path], problems: list[str]) -> tuple[Geometry, ...] | None:
    """Read all structures to start from.

    Args:
        paths: files, and folders of files. `*.in` is FHI-aims' format, the rest is left to ASE.
        problems: is extended by a sentence for everything that is wrong.

    Returns:
        In the order of the paths, files of a folder by name; None where there were problems.
    """
    before = len(problems)
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".")
            if not inside:
                problems.append(f"{path.name}: there is no file in this folder of geometries.")
            files += inside
        else:
            files.append(path)
    geometries: list[Geometry] = []
    for file in files:
        geometries += _read_aims(file, problems) if file.suffix == ".in" else _read(file, problems)
    names = Counter(geometry.name for geometry in geometries)
    problems += [
        f"{name}: {count} geometry files have this name; rename one, so that each can be told."
        for name, count in names.items()
        if count > 1
    ]
    return tuple(geometries) if len(problems) == before else None


def _read_aims(path: Path, problems: list[str]) -> list[Geometry]:
    text = read_text(path, problems)
    if text is None:
        return []
    try:
        return [Geometry(path.name, *parse_geometry(text, path.name))]
    except InputError as error:
        problems += error.problems
        return []


def _read(path: Path, problems: list[str]) -> list[Geometry]:
    import ase.io
    from ase import units

    if not path.is_file():
        problems.append(f"{path.name} is missing in {path.parent}; put it there.")
        return []
    try:
        # Not collective: only one rank is here.
        frames = ase.io.read(path, index=":", parallel=False)
    except Exception as error:  # ASE's readers raise whatever they stumble over
        problems.append(f"{path.name}: ASE can't read it: {type(error).__name__}: {error}.")
        return []
    found = []
    for number, atoms in enumerate(frames):
        name = path.name if len(frames) == 1 else f"{path.name}#{number}"
        try:
            structure = Structure.from_atoms(atoms)
        except ValueError as error:
            problems.append(f"{name}: {error}.")
            continue
        if problem := _problem(structure):
            problems.append(f"{name}: {problem}.")
            continue
        velocities = atoms.get_velocities() * units.fs if atoms.has("momenta") else None
        found.append(Geometry(name, structure, velocities))
    if not frames:
        problems.append(f"{path.name}: there is no structure in it.")
    return found


def _problem(structure: Structure) -> str | None:
    from ase.neighborlist import neighbor_list

    if not len(structure):
        return "there are no atoms in it"
    if not (structure.numbers > 0).all():
        return "it has atoms of no element (X)"
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
        return "its coordinates are not finite"
    if structure.periodic and abs(np.linalg.det(_completed(structure))) < 1e-3:
        return "its lattice vectors span no volume; they must not be coplanar"
    if len(distances := neighbor_list("d", structure.to_atoms(), CLOSEST_A)):
        return f"two atoms are {distances.min():.3f} Å apart, expected at least {CLOSEST_A} Å"
    return None


def _completed(structure: Structure) -> FloatArray:
    from ase.geometry import complete_cell

    cell: FloatArray = complete_cell(np.where(structure.pbc[:, None], structure.cell, 0.0))
    return cell
