from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule

from fhi_al.structure import Structure


def rattled(atoms, size: float = 0.08) -> Structure:
    """Out of equilibrium, so that every force counts, in a way that is the same every time."""
    atoms.positions += np.random.default_rng(7).normal(scale=size, size=(len(atoms), 3))
    return Structure.from_atoms(atoms)


@pytest.fixture
def water() -> Structure:
    return rattled(molecule("H2O"))


@pytest.fixture
def ethanol() -> Structure:
    return rattled(molecule("CH3CH2OH"))


@pytest.fixture
def silicon() -> Structure:
    """Eight atoms in a cell without any symmetry, so that a mixed-up stress can't pass."""
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.01, 0], [0.01, 0.99, 0.03], [0, 0.03, 1.01]], True)
    return rattled(atoms)
