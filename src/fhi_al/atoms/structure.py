"""An arrangement of atoms, what a reference says about it, and the key that ties the two."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def _frozen(values: Any, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype).reshape(shape)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in space. Arrays are copied and made read-only.

    Attributes:
        numbers: (atoms,) atomic numbers.
        positions: (atoms, 3) in Å.
        cell: (3, 3) lattice vectors as rows in Å; zeros where there is no cell.
        pbc: (3,) periodic along each lattice vector.
        magmoms: (atoms,) initial magnetic moments in Bohr magnetons, or None.
        charges: (atoms,) initial charges in e, or None.
        fixed: (atoms,) atoms that molecular dynamics must not move; one value: all or none. Not
            part of the key: a reference gives the forces of a fixed atom all the same.
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: BoolArray = field(default_factory=lambda: np.zeros(3, dtype=bool))
    magmoms: FloatArray | None = None
    charges: FloatArray | None = None
    fixed: BoolArray = field(default_factory=lambda: np.zeros((), dtype=bool))

    def __post_init__(self) -> None:
        n = len(self.numbers)
        freeze = object.__setattr__
        freeze(self, "numbers", _frozen(self.numbers, np.int64, (n,)))
        freeze(self, "positions", _frozen(self.positions, np.float64, (n, 3)))
        freeze(self, "cell", _frozen(self.cell, np.float64, (3, 3)))
        freeze(self, "pbc", _frozen(self.pbc, np.bool_, (3,)))
        for name in ("magmoms", "charges"):
            if getattr(self, name) is not None:
                freeze(self, name, _frozen(getattr(self, name), np.float64, (n,)))
        freeze(self, "fixed", _frozen(np.broadcast_to(self.fixed, n), np.bool_, (n,)))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def periodic(self) -> bool:
        """Whether the structure repeats along any direction."""
        return bool(self.pbc.any())

    @property
    def formula(self) -> str:
        """Chemical formula in Hill's order."""
        from ase.data import chemical_symbols
        from ase.formula import Formula

        symbols = [chemical_symbols[number] for number in self.numbers]
        formula: str = Formula.from_list(symbols).format("hill")
        return formula

    @property
    def composition(self) -> str:
        """Chemical formula, elements by atomic number, such as `H6C2O1`."""
        from ase.data import chemical_symbols

        numbers, counts = np.unique(self.numbers, return_counts=True)
        return "".join(
            f"{chemical_symbols[number]}{count}"
            for number, count in zip(numbers, counts, strict=True)
        )

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> Structure:
        """Take over an ASE structure: initial moments, charges and fixed atoms included.

        Raises:
            ValueError: a constraint that is not a plain FixAtoms.
        """
        from ase.constraints import FixAtoms

        fixed = np.zeros(len(atoms), dtype=bool)
        for constraint in atoms.constraints:
            if not isinstance(constraint, FixAtoms):
                raise ValueError(
                    f"the constraint {type(constraint).__name__} is not supported; "
                    "only whole atoms can be fixed"
                )
            fixed[constraint.index] = True
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            magmoms=atoms.get_initial_magnetic_moments() if atoms.has("initial_magmoms") else None,
            charges=atoms.get_initial_charges() if atoms.has("initial_charges") else None,
            fixed=fixed,
        )

    def to_atoms(self) -> Atoms:
        """Build the ASE structure, without a calculator."""
        from ase import Atoms
        from ase.constraints import FixAtoms

        return Atoms(
            numbers=self.numbers,
            positions=self.positions,
            cell=self.cell,
            pbc=self.pbc,
            magmoms=self.magmoms,
            charges=self.charges,
            constraint=FixAtoms(mask=self.fixed) if self.fixed.any() else None,
        )


def structure_key(structure: Structure, engine_digest: str) -> str:
    """Name a structure as seen by one reference engine.

    Args:
        structure: what is to be labelled.
        engine_digest: digest of everything else that decides the label (see `Engine.digest`).

    Returns:
        SHA-256 in hexadecimal: equal keys mean equal labels.
    """
    sha = hashlib.sha256(engine_digest.encode())
    for name in ("numbers", "positions", "cell", "pbc", "magmoms", "charges"):
        array = getattr(structure, name)
        sha.update(name.encode())
        if array is not None:
            # Little-endian, and -0.0 made 0.0, so that the key is the same on every machine.
            little = np.ascontiguousarray(array + 0 if array.dtype == np.float64 else array)
            sha.update(little.astype(little.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class Label:
    """What a reference says about a structure.

    Attributes:
        structure: the structure that the numbers belong to.
        key: `structure_key` of it.
        energy: in eV; the force-consistent (free) energy where there is smearing.
        forces: (atoms, 3) in eV/Å, constraints not applied.
        stress: (6,) in eV/Å^3, ASE's sign and Voigt order (xx, yy, zz, yz, xz, xy), or None.
        provenance: where it comes from: engine, seconds, host, trajectory, step, ...
    """

    structure: Structure
    key: str
    energy: float
    forces: FloatArray
    stress: FloatArray | None = None
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "energy", float(self.energy))
        shape = (len(self.structure), 3)
        object.__setattr__(self, "forces", _frozen(self.forces, np.float64, shape))
        if self.stress is not None:
            object.__setattr__(self, "stress", _frozen(self.stress, np.float64, (6,)))
