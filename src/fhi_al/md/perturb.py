"""Structures for the initial dataset without molecular dynamics: shaken and strained copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fhi_al.atoms.structure import Structure
from fhi_al.md.walker import generator


def perturbed(
    structure: Structure,
    seed: int,
    index: int,
    perturb_displacement_A: float,
    perturb_strain: float,
) -> Structure:
    """Make one perturbed copy, the same for the same arguments.

    Args:
        structure: to start from.
        seed: of the run.
        index: number of the copy.
        perturb_displacement_A: standard deviation of the displacement of each coordinate, in Å.
        perturb_strain: standard deviation of the components of the symmetric strain. Only crystals
            without fixed atoms are strained; fixed atoms stay where they are.
    """
    random = generator(seed, "perturb", index)
    cell, positions = structure.cell, structure.positions
    if structure.pbc.all() and not structure.fixed.any():
        tensor = perturb_strain * random.standard_normal((3, 3))
        deformation = np.eye(3) + (np.tril(tensor) + np.tril(tensor, -1).T)
        cell, positions = cell @ deformation, positions @ deformation
    displacement = perturb_displacement_A * random.standard_normal(positions.shape)
    displacement[structure.fixed] = 0.0
    return replace(structure, cell=cell, positions=positions + displacement)
