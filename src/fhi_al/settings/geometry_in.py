"""`geometry.in` of FHI-aims, through ASE's reader.

That reader passes over every line that it does not know. So each line is looked at first, and what
would be lost or misread is refused with a reason.

Source: FHI-aims manual, section 3.2 (tags for geometry.in); velocities there are in Å/ps.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field

import numpy as np

from fhi_al.atoms.structure import FloatArray, Structure
from fhi_al.errors import InputError

FILE = "geometry.in"
CLOSEST_A = 0.3
"""Atoms closer than this (Å) are taken for a mistake: H2 has 0.74."""
FARTHEST_A = 1e5
"""A coordinate beyond this (Å) is taken for a mistake."""

_PARTIAL = "atoms can only be fixed as a whole; write `constrain_relaxation .true.` or remove it"
_REFUSED = {
    "empty": "ghost atoms have no place in molecular dynamics",
    "pseudocore": "point charges and pseudocores are not supported",
    "multipole": "external charges are not known to the models",
    "homogeneous_field": "an external field is not known to the models",
    "esp_constraint": "charges are not fitted here",
    "hessian_block": "it belongs to relaxations",
    "hessian_block_lv": "it belongs to relaxations",
    "hessian_block_lv_atom": "it belongs to relaxations",
    "hessian_file": "it belongs to relaxations",
    "trust_radius": "it belongs to relaxations",
    "set_vacuum_level": "surface corrections are not supported",
    "nuclear_constraint": "nuclear-electronic orbitals are not supported",
    "verbatim_writeout": "it has no effect here",
    "calculate_friction": "electronic friction is not supported",
    "magnetic_response": "responses are not computed",
    "magnetic_moment": "responses are not computed",
    "nuclear_spin": "responses are not computed",
    "isotope": "masses are those of the natural elements; see ASE",
    "RT_TDDFT_initial_velocity": "real-time propagation is not supported",
}
_KNOWN = (
    "atom",
    "atom_frac",
    "lattice_vector",
    "initial_moment",
    "initial_charge",
    "velocity",
    "constrain_relaxation",
)


@dataclass
class _Reading:
    """What was seen so far, line by line."""

    lines: list[str] = field(default_factory=list)
    file: str = FILE
    problems: list[str] = field(default_factory=list)
    species_lines: list[int] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    lattice_vectors: int = 0
    given: set[tuple[int, str]] = field(default_factory=set)
    velocities: dict[int, tuple[int, bool]] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)
    last: str = ""
    """`atom` or `lattice_vector`, whichever came last: what constraints and moments belong to."""

    def refuse(self, number: int, what: str) -> None:
        self.problems.append(f"{self.file}, line {number}: {what}.")


def parse_geometry(text: str, file: str = FILE) -> tuple[Structure, FloatArray | None]:
    """Read a geometry.in.

    Args:
        text: the whole file.
        file: its name, for messages.

    Returns:
        The structure, and the velocities ((atoms, 3), Å/fs) or None where there are none.

    Raises:
        InputError: everything in the file that is wrong, or would be lost.
    """
    seen = _Reading(file=file)
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if words:
            _check_line(seen, number, words)
            seen.lines.append(" ".join(words))
    _check_whole(seen)
    if seen.problems:
        raise InputError(seen.problems)
    return _read(seen)


def format_geometry(structure: Structure, *, exact: bool = False) -> str:
    """Write a structure as a geometry.in.

    Not with ASE, whose writers are collective over all ranks since 3.29.

    Args:
        structure: a molecule, or periodic in all three directions.
        exact: for FHI-aims itself: each number to the last bit, and no constraints, as it is to
            give the forces of fixed atoms, too. Otherwise for people: `parse_geometry` reads the
            structure again, rounded to 1e-8 Å.

    Raises:
        InputError: it is periodic in one or two directions.
    """
    from ase.data import chemical_symbols

    if structure.periodic and not structure.pbc.all():
        raise InputError(
            f"geometry.in: periodic along {structure.pbc.tolist()}; FHI-aims takes molecules and "
            "structures with three lattice vectors"
        )
    length, number = ("{:.17g}", "{!r}") if exact else ("{:16.8f}", "{:.6g}")

    def coordinates(vector: FloatArray) -> str:
        return " ".join(length.format(value) for value in vector)

    properties = {"initial_moment": structure.magmoms, "initial_charge": structure.charges}
    lines = []
    if structure.periodic:
        lines = [f"lattice_vector {coordinates(vector)}" for vector in structure.cell]
    for i, position in enumerate(structure.positions):
        lines.append(f"atom {coordinates(position)}  {chemical_symbols[structure.numbers[i]]}")
        for name, values in properties.items():
            # To FHI-aims zero is what goes without saying; here it is a choice.
            if values is not None and (values[i] or not exact):
                lines.append(f"    {name} {number.format(float(values[i]))}")
        if structure.fixed[i] and not exact:
            lines.append("    constrain_relaxation .true.")
    return "\n".join(lines) + "\n"


def _check_line(seen: _Reading, number: int, words: list[str]) -> None:
    name, values = words[0], words[1:]
    if name in ("atom", "atom_frac"):
        seen.species_lines.append(number)
        seen.kinds.add(name)
        seen.last = "atom"
        if len(values) != 4:
            seen.refuse(number, f"{name} needs three coordinates and a species, got {values}")
            return
        _check_numbers(seen, number, name, values[:3])
        _check_species(seen, number, values[3])
    elif name == "lattice_vector":
        seen.lattice_vectors += 1
        seen.last = name
        _check_numbers(seen, number, name, values, count=3)
    elif name in ("initial_moment", "initial_charge", "velocity", "constrain_relaxation"):
        if seen.last != "atom":
            what = "belongs to an atom and must follow its line"
            if name == "constrain_relaxation" and seen.last:
                what = "of a lattice vector: the cell never changes here; remove the line"
            seen.refuse(number, f"{name} {what}")
            return
        _check_property(seen, number, name, values)
    elif name in _REFUSED:
        seen.refuse(number, f"{name}: {_REFUSED[name]}; remove the line")
    elif name.startswith("symmetry_"):
        seen.refuse(number, f"{name}: parametric constraints are not supported; remove the line")
    else:
        near = difflib.get_close_matches(name, _KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else f"supported: {', '.join(_KNOWN)}"
        seen.refuse(number, f"{name} is not supported; {hint}")


def _check_property(seen: _Reading, number: int, name: str, values: list[str]) -> None:
    atom = len(seen.species_lines) - 1
    if (atom, name) in seen.given:
        seen.refuse(number, f"this atom has another {name} line already; keep one of them")
    seen.given.add((atom, name))
    if name == "constrain_relaxation":
        if values == [".true."]:
            seen.fixed.add(atom)
        elif values != [".false."]:
            seen.refuse(number, f"constrain_relaxation {' '.join(values)}: {_PARTIAL}")
    elif name == "velocity":
        numbers = _check_numbers(seen, number, name, values, count=3)
        seen.velocities[atom] = (number, any(numbers))
    else:
        _check_numbers(seen, number, name, values, count=1)


def _check_numbers(
    seen: _Reading, number: int, name: str, values: list[str], count: int | None = None
) -> list[float]:
    if count is not None and len(values) != count:
        seen.refuse(number, f"{name} needs {count} number{'s' * (count > 1)}, got {values}")
        return []
    numbers = []
    for value in values:
        try:
            numbers.append(float(value))
        except ValueError:
            seen.refuse(number, f"{name}: got {value!r}, expected a number")
            continue
        if not abs(numbers[-1]) <= FARTHEST_A:
            seen.refuse(number, f"{name}: got {value}, expected a finite number of sane size")
    return numbers


def _check_species(seen: _Reading, number: int, species: str) -> None:
    from ase.data import chemical_symbols

    if species not in chemical_symbols[1:]:
        seen.refuse(number, f"species {species!r} is not a chemical symbol (H, He, Li, ...)")


def _check_whole(seen: _Reading) -> None:
    atoms = len(seen.species_lines)
    if not atoms:
        seen.problems.append(f"{seen.file}: there are no atoms in it.")
    if seen.lattice_vectors not in (0, 3):
        seen.problems.append(
            f"{seen.file}: got {seen.lattice_vectors} lattice_vector lines, expected 3, or none "
            "for a molecule."
        )
    if len(seen.kinds) == 2:
        seen.problems.append(f"{seen.file}: atom and atom_frac can't be mixed; use one of them.")
    if "atom_frac" in seen.kinds and not seen.lattice_vectors:
        seen.problems.append(f"{seen.file}: atom_frac needs three lattice_vector lines.")
    if seen.velocities and len(seen.velocities) != atoms:
        without = next(i for i in range(atoms) if i not in seen.velocities)
        seen.problems.append(
            f"{seen.file}, line {seen.species_lines[without]}: this atom has no velocity; give "
            "one for every atom, or none at all."
        )
    for atom, (number, moving) in seen.velocities.items():
        if moving and atom in seen.fixed:
            seen.refuse(number, "a fixed atom has a velocity; remove one of the two")


def _read(seen: _Reading) -> tuple[Structure, FloatArray | None]:
    from ase import units
    from ase.io.aims import parse_geometry_lines

    # Not ase.io.read: it is collective over all ranks, and only one of them is here.
    atoms = parse_geometry_lines(seen.lines)
    if atoms.pbc.any() and abs(np.linalg.det(atoms.cell.array)) < 1e-3:
        raise InputError(
            f"{seen.file}: the lattice vectors span no volume; they must not be coplanar."
        )
    structure = Structure.from_atoms(atoms)
    # ASE drops moments and charges that are all zero; zero moments are a choice, too.
    zeros = np.zeros(len(structure))
    kinds = {name for _, name in seen.given}
    if "initial_moment" in kinds and structure.magmoms is None:
        structure = dataclasses.replace(structure, magmoms=zeros)
    if "initial_charge" in kinds and structure.charges is None:
        structure = dataclasses.replace(structure, charges=zeros)
    if problems := _overlaps(structure, seen):
        raise InputError(problems)
    if not seen.velocities:
        return structure, None
    velocities: FloatArray = atoms.get_velocities() * units.fs
    return structure, velocities


def _overlaps(structure: Structure, seen: _Reading) -> list[str]:
    from ase.neighborlist import neighbor_list

    lines = seen.species_lines
    problems = []
    pairs = zip(*neighbor_list("ijd", structure.to_atoms(), CLOSEST_A), strict=True)
    for i, j, distance in pairs:
        if i < j:
            problems.append(
                f"{seen.file}, lines {lines[i]} and {lines[j]}: these atoms are {distance:.3f} Å "
                f"apart, expected at least {CLOSEST_A} Å."
            )
        elif i == j and not problems:
            problems.append(
                f"{seen.file}: atoms are {distance:.3f} Å from their own periodic image, expected "
                f"at least {CLOSEST_A} Å; check the lattice vectors."
            )
    return problems
