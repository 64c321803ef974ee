"""SO3LR, a pretrained model whose weights come with the package so3krates-torch."""

from __future__ import annotations

from typing import Any

from ase.data import atomic_numbers

from fhi_al.errors import InputError

SO3LR_ELEMENTS = ("H", "C", "N", "O", "F", "P", "S", "Cl")
"""What SO3LR was trained on; its network takes any element without a complaint.

Source: A. Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025), SO3LR.
"""


def so3lr_calculator(
    device: str, dtype: str, *, stress: bool, where: str, otherwise: str = ""
) -> Any:
    """Load SO3LR as an ASE calculator.

    Args:
        device: where it is to run, as torch names it.
        dtype: `float32` or `float64`.
        stress: whether it is to compute stress too.
        where: the setting that asks for it, for messages.
        otherwise: what can be done without it, for messages.

    Raises:
        InputError: the package is not installed.
    """
    try:
        from so3krates_torch.calculator.so3 import SO3LRCalculator
    except ImportError as error:
        raise InputError(
            f"{where}: so3lr needs so3krates-torch, which can't be imported ({error}); install it "
            f"with `pip install fhi_al[so3lr]`{otherwise}"
        ) from error
    return SO3LRCalculator(device=device, default_dtype=dtype, compute_stress=stress)


def so3lr_energies(calculator: Any) -> dict[str, float]:
    """The energies of isolated atoms in eV that SO3LR was trained with.

    Args:
        calculator: see `so3lr_calculator`.
    """
    shifts = calculator.models[0].atomic_energy_output_block.energy_shifts
    # Its list begins with hydrogen.
    return {symbol: float(shifts[atomic_numbers[symbol] - 1]) for symbol in SO3LR_ELEMENTS}
