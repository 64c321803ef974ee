"""The pretrained model that samples the initial structures."""

from __future__ import annotations

import torch

from fhi_al.ensemble.architecture import compute_alike_always, default_dtype
from fhi_al.ensemble.foundation import WHERE, output_in_log
from fhi_al.ensemble.predict import CalculatorDriver
from fhi_al.errors import InputError
from fhi_al.md.driver import Driver
from fhi_al.procedures.samplings import sampling
from fhi_al.reference.engine import charge_and_unpaired
from fhi_al.reference.so3lr import SO3LR_ELEMENTS, so3lr_calculator
from fhi_al.settings import Inputs


def foundation_driver(inputs: Inputs, device: str | torch.device) -> Driver:
    """Load the model that `initial_sampling` names.

    Args:
        inputs: with the settings.
        device: where it is to run.

    Returns:
        Forces for molecular dynamics.

    Raises:
        InputError: the model isn't installed, can't be downloaded, can't be read, or doesn't know
            an element of geometry.in.
    """
    if inputs.deterministic:
        compute_alike_always()
    driver: Driver = sampling(inputs.al.active_learning.initial_sampling).load()(inputs, device)
    return driver


def so3lr_driver(inputs: Inputs, device: str | torch.device) -> CalculatorDriver:
    """SO3LR, whose weights come with the package so3krates-torch.

    Args:
        inputs: with the settings; charge and spin are those of control.in.
        device: where it is to run.

    Raises:
        InputError: the package is not installed, or the model wasn't trained on an element.
    """
    if strange := [symbol for symbol in inputs.elements if symbol not in SO3LR_ELEMENTS]:
        raise InputError(
            f"{WHERE}: so3lr was trained on {', '.join(SO3LR_ELEMENTS)}, but geometry.in has "
            f"{', '.join(strange)}; choose mace-mp0, perturb, aimd, or the path of a MACE model "
            "file."
        )
    with output_in_log(), default_dtype("float32"):
        calculator = so3lr_calculator(
            str(device),
            "float32",
            stress=inputs.with_stress,
            where=WHERE,
            otherwise=", or choose mace-mp0, perturb, aimd, or the path of a MACE model file.",
        )
    states = {charge_and_unpaired(structure, inputs.control) for structure in inputs.structures}
    if len(states) > 1:
        raise InputError(
            f"{WHERE}: so3lr samples structures of one charge and spin, but the geometries have "
            f"several: {sorted(states, key=str)}; choose mace-mp0, perturb or aimd."
        )
    ((charge, unpaired),) = states
    return CalculatorDriver(calculator, {"charge": charge, "total_spin": float(unpaired or 0)})
