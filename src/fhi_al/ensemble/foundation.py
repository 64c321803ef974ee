"""MACE models that somebody else trained, which sample the initial structures."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from fhi_al.ensemble.architecture import load_model_file
from fhi_al.ensemble.members import elements
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.errors import InputError
from fhi_al.md.driver import Driver
from fhi_al.record.hush import hushed
from fhi_al.settings import Inputs

log = logging.getLogger(__name__)

WHERE = "active_learning_settings.yaml: ACTIVE_LEARNING.initial_sampling"
"""The setting that names the model."""


def mace_mp0_driver(inputs: Inputs, device: str | torch.device) -> Driver:
    """MACE-MP-0, in the size of the settings.

    Args:
        inputs: with the settings.
        device: where it is to run.

    Returns:
        Forces for molecular dynamics.

    Raises:
        InputError: the model can't be downloaded, or doesn't know an element of geometry.in.
    """
    size = inputs.al.active_learning.initial_foundational_size
    return _driver(mace_mp0(size), f"mace-mp0 {size}", inputs, device)


def model_file_driver(inputs: Inputs, device: str | torch.device) -> Driver:
    """The MACE model whose file the settings name; see `mace_mp0_driver`."""
    path = Path(inputs.al.active_learning.initial_sampling)
    return _driver(load_model_file(path), str(path), inputs, device)


def _driver(
    model: torch.nn.Module, name: str, inputs: Inputs, device: str | torch.device
) -> Driver:
    known = [int(z) for z in model.get_buffer("atomic_numbers")]
    if missing := sorted(set(elements(inputs)) - set(known)):
        raise InputError(
            f"{WHERE}: {name} doesn't know "
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
        with output_in_log():
            model = mace_mp(model=size, device="cpu", return_raw_model=True)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{WHERE}: the model mace-mp0 ({size}) is neither in mace-torch's cache, "
            f"{get_cache_dir()}, nor can it be downloaded from here ({error.__cause__ or error}). "
            "Fetch it once where there is a network "
            f'(python -c "from mace.calculators import mace_mp; mace_mp({size!r})") and '
            "copy the cache, or choose so3lr, perturb, aimd, or the path of a MACE model file."
        ) from error
    assert isinstance(model, torch.nn.Module)
    return model


@contextlib.contextmanager
def output_in_log() -> Iterator[None]:
    """Send what libraries print and warn of to the log."""
    printed = io.StringIO()
    with hushed(), contextlib.redirect_stdout(printed):
        yield
    for line in printed.getvalue().splitlines():
        log.debug(line)
