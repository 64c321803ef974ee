"""What makes a MACE model but for its weights, as plain data, and the way back to a model."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mace.modules import gate_dict
from mace.tools import AtomicNumberTable, build_default_arg_parser, check_args
from mace.tools.model_script_utils import configure_model
from mace.tools.scripts_utils import extract_config_mace_model

from fhi_al.errors import InputError
from fhi_al.settings.mace import Architecture

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a model, weights apart. Plain data, saved in every checkpoint.

    Attributes:
        options: architecture in the names of `mace_run_train`.
        elements: atomic numbers, sorted.
        atomic_energies: E0 of each element in eV.
        avg_num_neighbors: divides the messages; outside of the state dict in MACE.
        scale: of the interaction energy, in eV.
        shift: of the interaction energy of each atom, in eV.
        dtype: `float32` or `float64`.
    """

    options: Mapping[str, Any]
    elements: tuple[int, ...]
    atomic_energies: tuple[float, ...]
    avg_num_neighbors: float
    scale: float
    shift: float
    dtype: str

    @property
    def r_max(self) -> float:
        """Cutoff of the neighbour graph in Å."""
        return float(self.options["r_max"])


def compute_alike_always() -> None:
    """Let TorchScript compute a process's first calls like all later ones.

    Its profiling executor watches the first calls and then changes the order of operations, so that
    a run that was restarted would differ by 1e-15 from one that was not. For deterministic runs.
    """
    torch._C._jit_set_profiling_executor(False)


@contextmanager
def default_dtype(name: str) -> Iterator[None]:
    """Set the type of new floating-point tensors, which is how MACE chooses its precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[name])
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def mace_options(options: Mapping[str, Any]) -> Namespace:
    """Complete options by the defaults of `mace_run_train`.

    Args:
        options: in the names of `mace_run_train`.
    """
    args = build_default_arg_parser().parse_args(["--name", "model", "--train_file", ""])
    unknown = set(options) - set(vars(args))
    assert not unknown, f"not options of mace_run_train: {unknown}"
    vars(args).update(options)
    # mace_run_train takes the network's widths as text.
    args.radial_MLP = str(list(options.get("radial_MLP", [64, 64, 64])))
    completed: Namespace
    completed, _ = check_args(args)
    return completed


def architecture_options(architecture: Architecture) -> dict[str, Any]:
    """The ARCHITECTURE section as options of `mace_run_train`."""
    options = architecture.model_dump(exclude={"atomic_energies", "compute_avg_num_neighbors"})
    options["radial_MLP"] = list(options["radial_MLP"])
    return options


def build_model(spec: ModelSpec, seed: int = 0) -> torch.nn.Module:
    """Build a model on the CPU; its weights depend on the seed alone.

    Args:
        spec: what to build.
        seed: of the weights. Torch's own generator is left as it was.
    """
    args = mace_options(spec.options)
    # mace_run_train sets these between reading its options and building the model.
    args.compute_energy, args.compute_dipole, args.compute_polarizability = True, False, False
    args.avg_num_neighbors, args.std, args.mean = spec.avg_num_neighbors, spec.scale, spec.shift
    with default_dtype(spec.dtype), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model, _ = configure_model(
            args,
            train_loader=None,
            atomic_energies=np.array([spec.atomic_energies]),
            heads=["Default"],
            z_table=AtomicNumberTable(list(spec.elements)),
        )
    assert isinstance(model, torch.nn.Module)
    return model


def load_model_file(path: Path, *, trusted: bool = False) -> torch.nn.Module:
    """Load a `.model` file: a pickled module, by MACE's design.

    Args:
        path: that the user named; unpickling can run code.
        trusted: whether it is this program's own; of others the user is warned.

    Raises:
        InputError: it is no such file.
    """
    if not trusted:
        log.warning("%s is a pickle, which can run any code: use only files that you trust.", path)
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # unpickling can raise anything
        raise InputError(f"{path} can't be loaded as a MACE model: {error}") from error
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "atomic_numbers"):
        raise InputError(
            f"{path} holds a {type(model).__name__}, expected a MACE model as mace_run_train and "
            "this program write them."
        )
    return model


def spec_of_model(model: torch.nn.Module, dtype: str, name: str) -> ModelSpec:
    """Read off what makes a model that somebody else trained.

    Args:
        model: as loaded from a `.model` file.
        dtype: the precision that it will be used in.
        name: of the file, for messages.

    Raises:
        InputError: not a MACE model of the kind that is trained here.
    """
    heads = getattr(model, "heads", None) or ("Default",)
    if type(model).__name__ != "ScaleShiftMACE" or len(heads) > 1:
        raise InputError(
            f"{name} holds a {type(model).__name__} with the heads {list(heads)}, expected a "
            "ScaleShiftMACE with one head, as mace_run_train and this program write them."
        )
    config = extract_config_mace_model(model)
    irreps = config["hidden_irreps"]
    gates = [key for key, gate in gate_dict.items() if gate is config["gate"]]
    options = {
        "model": "ScaleShiftMACE",
        "r_max": float(config["r_max"]),
        "num_channels": irreps.count((0, 1)),
        # A model of one layer has no vectors left in its last, and only, product.
        "max_L": irreps.lmax,
        "max_ell": int(config["max_ell"]),
        "radial_type": config["radial_type"],
        "num_radial_basis": int(config["num_bessel"]),
        "num_cutoff_basis": int(config["num_polynomial_cutoff"]),
        "interaction": config["interaction_cls"].__name__,
        "interaction_first": config["interaction_cls_first"].__name__,
        "num_interactions": int(config["num_interactions"]),
        "correlation": int(config["correlation"]),
        "radial_MLP": [int(width) for width in config["radial_MLP"]],
        "gate": gates[0] if gates else "None",
        "MLP_irreps": str(config["MLP_irreps"]),
        "distance_transform": config["distance_transform"] or "None",
        "pair_repulsion": bool(config["pair_repulsion"]),
        "apply_cutoff": bool(config["apply_cutoff"]),
        "use_reduced_cg": bool(config["use_reduced_cg"]),
        "use_so3": bool(config["use_so3"]),
        "use_agnostic_product": bool(config["use_agnostic_product"]),
        "use_last_readout_only": bool(config["use_last_readout_only"]),
    }
    return ModelSpec(
        options=options,
        elements=tuple(int(z) for z in config["atomic_numbers"]),
        atomic_energies=tuple(float(e) for e in np.ravel(config["atomic_energies"])),
        avg_num_neighbors=float(config["avg_num_neighbors"]),
        scale=float(np.ravel(config["atomic_inter_scale"])[0]),
        shift=float(np.ravel(config["atomic_inter_shift"])[0]),
        dtype=dtype,
    )


def rebuild(foreign: torch.nn.Module, dtype: str, name: str) -> tuple[ModelSpec, torch.nn.Module]:
    """Make an equal of a model that somebody else trained, by the way of plain data.

    Args:
        foreign: as loaded from a `.model` file.
        dtype: the precision that it will be used in.
        name: of the file, for messages.

    Raises:
        InputError: this version of mace-torch builds another model from the same options.
    """
    spec = spec_of_model(foreign, dtype, name)
    model = build_model(spec)
    own = model.state_dict()
    # E0s, scale and shift are stored with or without an axis for the heads, of which there is one.
    state = {
        key: value.reshape(own[key].shape)
        if key in own and value.numel() == own[key].numel()
        else value
        for key, value in foreign.state_dict().items()
    }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{name} has an architecture that can't be rebuilt with the installed mace-torch: "
            f"{error}"
        ) from error
    return spec, model
