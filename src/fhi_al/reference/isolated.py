"""Isolated atoms in all the spin states that they could have."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase.data import atomic_numbers

from fhi_al.atoms.structure import Structure

# Most unpaired electrons worth a try, by block of the periodic table: the half-filled valence
# shell, and one electron more where an inner s electron can join (Cr, Gd).
_MOST_UNPAIRED = {"s": 2, "p": 4, "d": 6, "f": 8}
_NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)


def _block(number: int) -> str:
    core = max(n for n in _NOBLE if n < number)
    valence = number - core
    period_length = next(n for n in _NOBLE if n >= number) - core
    if valence <= 2:
        return "s"
    if valence > period_length - 6:
        return "p"
    return "f" if period_length == 32 and valence <= 16 else "d"


def unpaired_electrons(symbol: str) -> list[int]:
    """Numbers of unpaired electrons that a neutral atom could have.

    Args:
        symbol: chemical symbol.

    Returns:
        Those of the right parity, ascending.
    """
    number = atomic_numbers[symbol]
    most = 1 if number == 1 else _MOST_UNPAIRED[_block(number)]
    return list(range(number % 2, min(most, number) + 1, 2))


def isolated_atoms(symbols: Iterable[str]) -> list[tuple[str, int, Structure]]:
    """Build the structures whose energies are compared.

    Args:
        symbols: chemical symbols.

    Returns:
        (symbol, unpaired electrons, neutral atom in empty space) each.
    """
    return [
        (
            symbol,
            unpaired,
            Structure(
                numbers=np.array([atomic_numbers[symbol]]),
                positions=np.zeros((1, 3)),
                magmoms=np.array([float(unpaired)]),
                charges=np.zeros(1),
            ),
        )
        for symbol in sorted(set(symbols))
        for unpaired in unpaired_electrons(symbol)
    ]
