"""Pretrained models that sample the initial structures."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from fhi_al.ensemble.architecture import (
    compute_alike_always,
    default_dtype,
    load_model_file,
)
from fhi_al.ensemble.members import elements
from fhi_al.ensemble.predict import CalculatorDriver, CommitteePredictor
from fhi_al.errors import InputError
from fhi_al.md.driver import Driver
from fhi_al.reference.engine import charge_and_unpaired
from fhi_al.reference.hush import hushed
from fhi_al.reference.mlff import SO3LR_ELEMENTS
from fhi_al.settings import Inputs

log = logging.getLogger(__name__)

_WHERE = "active_learning_settings.yaml: ACTIVE_LEARNING.initial_sampling"


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
    settings = inputs.al.active_learning
    if settings.initial_sampling == "so3lr":
        return so3lr_driver(inputs, device)
    if settings.initial_sampling == "mace-mp0":
        model = mace_mp0(settings.initial_foundational_size)
        name = f"mace-mp0 {settings.initial_foundational_size}"
    else:
        path = Path(settings.initial_sampling)
        model, name = load_model_file(path), str(path)
    known = [int(z) for z in model.get_buffer("atomic_numbers")]
    if missing := sorted(set(elements(inputs)) - set(known)):
        raise InputError(
            f"{_WHERE}: {name} doesn't know "
            f"the atomic numbers {missing} of geometry.in; choose another model."
        )
    # Sampling needs no precision, but a deterministic run needs the same numbers every time.
    dtype = torch.float64 if inputs.deterministic else torch.float32
    return CommitteePredictor([model], device, dtype, one_by_one=inputs.deterministic)


def mace_mp0(size: str) -> torch.nn.Module:
    """MACE-MP-0, from mace-torch's cache or from the network.

    Args:
        size: small, medium or large.

    Raises:
        InputError: it is in neither.
    """
    from mace.calculators import mace_mp
    from mace.tools.utils import get_cache_dir

    try:
        with _quiet():
            model = mace_mp(model=size, device="cpu", return_raw_model=True)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{_WHERE}: the model mace-mp0 ({size}) is neither in mace-torch's cache, "
            f"{get_cache_dir()}, nor can it be downloaded from here ({error.__cause__ or error}). "
            "Fetch it once where there is a network "
            f'(python -c "from mace.calculators import mace_mp; mace_mp({size!r})") and '
            "copy the cache, or choose so3lr, perturb, aimd, or the path of a MACE model file."
        ) from error
    assert isinstance(model, torch.nn.Module)
    return model


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
            f"{_WHERE}: so3lr was trained on {', '.join(SO3LR_ELEMENTS)}, but geometry.in has "
            f"{', '.join(strange)}; choose mace-mp0, perturb, aimd, or the path of a MACE model "
            "file."
        )
    try:
        with _quiet(), default_dtype("float32"):
            from so3krates_torch.calculator.so3 import SO3LRCalculator

            calculator = SO3LRCalculator(
                device=str(device), default_dtype="float32", compute_stress=inputs.with_stress
            )
    except ImportError as error:
        raise InputError(
            f"{_WHERE}: so3lr needs so3krates-torch, which can't be imported ({error}); install it "
            "with `pip install fhi_al[so3lr]`, or choose mace-mp0, perturb, aimd, or the path of a "
            "MACE model file."
        ) from error
    states = {charge_and_unpaired(structure, inputs.control) for structure in inputs.structures}
    if len(states) > 1:
        raise InputError(
            f"{_WHERE}: so3lr samples structures of one charge and spin, but the geometries have "
            f"several: {sorted(states, key=str)}; choose mace-mp0, perturb or aimd."
        )
    ((charge, unpaired),) = states
    return CalculatorDriver(calculator, {"charge": charge, "total_spin": float(unpaired or 0)})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what libraries print and warn of to the log."""
    printed = io.StringIO()
    with hushed(), contextlib.redirect_stdout(printed):
        yield
    for line in printed.getvalue().splitlines():
        log.debug(line)
