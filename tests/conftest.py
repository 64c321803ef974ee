"""Parts that several tests share: tiny MACE models, made in milliseconds, and small structures."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from asi_library.build import compile_library
from hypothesis import settings

# For tests that name no number of their own.
settings.register_profile("few", max_examples=60)
settings.register_profile("soak", max_examples=2000)
settings.load_profile("few")


@pytest.fixture(scope="session", autouse=True)
def own_temporary_files() -> Iterator[None]:
    """Give processes that tests start a folder for temporary files of their own.

    An mpirun that is killed leaves a folder named by its process there; a later one that happens to
    have the same number doesn't start.
    """
    before = os.environ.get("TMPDIR")
    folder = tempfile.mkdtemp(prefix="fhi_al-tests-")
    os.environ["TMPDIR"] = folder
    yield
    if before is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before
    shutil.rmtree(folder, ignore_errors=True)


def build_mace(seed: int = 0, **changes) -> torch.nn.Module:
    """A ScaleShiftMACE with random weights in float64, for H, C, O and Si; forces are eV/Å."""
    import mace  # noqa: F401  # lets e3nn load its constants; before e3nn
    from e3nn import o3
    from mace import modules

    block = modules.interaction_classes
    arguments = {
        "r_max": 3.5,
        "num_bessel": 4,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "interaction_cls": block["RealAgnosticResidualInteractionBlock"],
        "interaction_cls_first": block["RealAgnosticInteractionBlock"],
        "num_interactions": 2,
        "num_elements": 4,
        "hidden_irreps": o3.Irreps("4x0e + 4x1o"),
        "MLP_irreps": o3.Irreps("4x0e"),
        "gate": torch.nn.functional.silu,
        "atomic_energies": np.array([-1.0, -2.0, -3.0, -4.0]),
        "avg_num_neighbors": 6.0,
        "atomic_numbers": [1, 6, 8, 14],
        "correlation": 2,
        "radial_MLP": [8],
        "radial_type": "bessel",
        "atomic_inter_scale": 5.0,
        "atomic_inter_shift": 0.1,
        **changes,
    }
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return modules.ScaleShiftMACE(**arguments)
    finally:
        torch.set_default_dtype(before)


@cache
def _prototypes() -> list[torch.nn.Module]:
    return [build_mace(seed) for seed in range(3)]


@pytest.fixture
def tiny_mace() -> Callable[..., torch.nn.Module]:
    """Makes a tiny MACE model (2 s): `tiny_mace(seed, **changes of ScaleShiftMACE's arguments)`."""
    return build_mace


@pytest.fixture
def tiny_models() -> list[torch.nn.Module]:
    """A committee of three tiny MACE models for H, C, O and Si, in float64, made once."""
    return deepcopy(_prototypes())


@pytest.fixture
def ethanol() -> Atoms:
    """A free molecule, slightly out of equilibrium."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def silicon() -> Atoms:
    """Two atoms in a cell that is shorter than any cutoff."""
    atoms = bulk("Si", "diamond", a=5.43)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture(scope="session")
def toy_asi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy ASI library, compiled."""
    return compile_library(tmp_path_factory.mktemp("asi") / "libtoy_asi.so")
