"""Structures and input files that the tests here and their scripts under mpirun share."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from fhi_al.atoms.structure import Structure
from fhi_al.settings.control_in import ControlIn, parse_control

ASI_ELEMENTS = ["C", "H", "O", "Si"]


def asi_control(text: str = "") -> ControlIn:
    return parse_control(f"xc pbe\nrelativistic none\n{text}\n")


def rattled(atoms: Atoms, size: float = 0.08) -> Structure:
    """Out of equilibrium, so that every force counts, in a way that is the same every time."""
    atoms.positions += np.random.default_rng(7).normal(scale=size, size=(len(atoms), 3))
    return Structure.from_atoms(atoms)


def water() -> Structure:
    return rattled(molecule("H2O"))


def ethanol() -> Structure:
    return rattled(molecule("CH3CH2OH"))


def silicon() -> Structure:
    """Eight atoms in a cell without any symmetry, so that a mixed-up stress can't pass."""
    atoms = bulk("Si", cubic=True)
    strain = [[1.02, 0.01, 0], [0.01, 0.99, 0.03], [0, 0.03, 1.01]]
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return rattled(atoms)
