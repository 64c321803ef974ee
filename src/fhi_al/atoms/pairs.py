"""Pairs of atoms that are near each other, images included; and arrangements that make no sense."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list
from scipy.spatial import KDTree

from fhi_al.atoms.structure import BoolArray, FloatArray, IntArray


def search(
    positions: FloatArray, cell: FloatArray, pbc: BoolArray, cutoff: float
) -> tuple[IntArray, IntArray]:
    """Find all pairs of atoms within a cutoff, those with periodic images included.

    Args:
        positions: (atoms, 3) in Å, inside the cell or not.
        cell: (3, 3) in Å; may be shorter than the cutoff.
        pbc: (3,).
        cutoff: in Å.

    Returns:
        (2, pairs) sender and receiver, and (pairs, 3) shift in lattice vectors; in an order that
        depends on nothing but the pairs.
    """
    if not pbc.any():
        pairs = KDTree(positions).query_pairs(cutoff, output_type="ndarray").T
        index = np.concatenate([pairs, pairs[::-1]], axis=1).astype(np.int64)
        shifts = np.zeros((index.shape[1], 3), dtype=np.int64)
    else:
        box = _search_box(positions, cell, pbc, cutoff)
        origin = positions.mean(0) - box[~pbc].sum(0) / 2
        i, j, shifts = neighbour_list(
            "ijS", positions=positions, cell=box, pbc=pbc, cutoff=cutoff, cell_origin=origin
        )
        itself = (i == j) & (shifts == 0).all(1)
        index = np.stack([i, j])[:, ~itself].astype(np.int64)
        shifts = shifts[~itself].astype(np.int64)
    order = np.lexsort((*shifts.T[::-1], index[0], index[1]))
    return index[:, order], shifts[order]


def _search_box(
    positions: FloatArray, cell: FloatArray, pbc: BoolArray, cutoff: float
) -> FloatArray:
    """Replace the vectors of non-periodic directions by ones that span all atoms."""
    if pbc.all():
        return cell
    box: FloatArray = complete_cell(np.where(pbc[:, None], cell, 0.0))
    extent = float(np.linalg.norm(np.ptp(positions, axis=0))) + 2 * cutoff
    box[~pbc] *= extent / np.linalg.norm(box[~pbc], axis=1, keepdims=True)
    return box


def too_close(
    numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: BoolArray, factor: float
) -> str | None:
    """Say which two atoms are closer than any two atoms should ever be.

    Args:
        numbers: (atoms,) atomic numbers.
        positions: (atoms, 3) in Å.
        cell: (3, 3) in Å.
        pbc: (3,).
        factor: of the sum of the covalent radii, which no distance may fall below.

    Returns:
        In words, the worst pair; or None.
    """
    radii = covalent_radii[numbers]
    (i, j), shifts = search(positions, cell, pbc, 2 * factor * float(radii.max()))
    if not len(i):
        return None
    distances = np.linalg.norm(positions[j] - positions[i] + shifts @ cell, axis=1)
    ratios = distances / (radii[i] + radii[j])
    worst = int(ratios.argmin())
    if ratios[worst] >= factor:
        return None
    first, second = sorted((int(i[worst]), int(j[worst])))
    image = " (of a periodic image)" if shifts[worst].any() else ""
    return (
        f"atoms {first + 1} ({chemical_symbols[numbers[first]]}) and {second + 1} "
        f"({chemical_symbols[numbers[second]]}){image} are {distances[worst]:.3f} Å apart, "
        f"{ratios[worst]:.2f} times the sum of their covalent radii (limit {factor:g})"
    )


def flown_off(numbers: IntArray, positions: FloatArray, limit: float) -> str | None:
    """Say which atom of a molecule is far from all others.

    Args:
        numbers: (atoms,) atomic numbers.
        positions: (atoms, 3) in Å.
        limit: of the distance to the nearest other atom, in Å.

    Returns:
        In words, the loneliest atom; or None.
    """
    if len(positions) < 2:
        return None
    nearest, _ = KDTree(positions).query(positions, k=2)
    alone = int(nearest[:, 1].argmax())
    if nearest[alone, 1] <= limit:
        return None
    return (
        f"atom {alone + 1} ({chemical_symbols[numbers[alone]]}) is {nearest[alone, 1]:.1f} Å away "
        f"from all others (limit {limit:g} Å)"
    )
