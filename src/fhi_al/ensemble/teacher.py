"""A MACE model that somebody else trained, as the reference of `engine: mlff`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from mace.calculators import MACECalculator


def mace_calculator(path: Path, device: str, dtype: str) -> tuple[Any, dict[str, float]]:
    """Load a `.model` file as MACE's own ASE calculator.

    Args:
        path: of the file, a pickle: unpickling can run code, and raise anything.
        device: where the model is to run, as torch names it.
        dtype: `float32` or `float64`.

    Returns:
        The calculator, and the energy in eV of an isolated atom of each element that it knows.
    """
    calculator = MACECalculator(model_paths=path, device=device, default_dtype=dtype)
    symbols = [chemical_symbols[int(z)] for z in calculator.z_table.zs]
    # (elements,) or, in newer models, (heads, elements).
    energies = calculator.models[0].atomic_energies_fn.atomic_energies.reshape(-1, len(symbols))
    own = energies[calculator.available_heads.index(calculator.head)].tolist()
    return calculator, dict(zip(symbols, own, strict=True))
