"""The file of walkers: all that they are, bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ase.data import atomic_masses

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import Structure
from fhi_al.errors import JournalError
from fhi_al.md.walker import CHAIN_LENGTH, Walkers
from fhi_al.record.files import write_hdf5


def save_walkers(walkers: Walkers, path: Path) -> None:
    """Write walkers to an HDF5 file; `load_walkers` gives the same bits back."""
    arrays: dict[str, Any] = {
        "trajectories": walkers.trajectories,
        "steps": walkers.steps,
        "ptr": walkers.batch.ptr,
        "numbers": walkers.batch.numbers.cpu().numpy(),
        "positions": walkers.positions.cpu().numpy(),
        "momenta": walkers.momenta.cpu().numpy(),
        "fixed": walkers.fixed.cpu().numpy(),
        "cells": walkers.batch.cells.cpu().numpy(),
        "pbc": walkers.batch.pbc,
        "temperatures": walkers.temperatures,
        "pressures": walkers.pressures,
        "chains": walkers.chains,
        "at_rest": walkers.at_rest,
        "generators": [json.dumps(random.bit_generator.state) for random in walkers.generators],
    }
    for name in ("magmoms", "charges"):
        given = [getattr(structure, name) for structure in walkers.structures]
        arrays[f"has_{name}"] = np.array([values is not None for values in given])
        arrays[name] = np.concatenate(
            [
                np.zeros(len(structure)) if values is None else values
                for structure, values in zip(walkers.structures, given, strict=True)
            ]
        )

    def write(file: h5py.File) -> None:
        for name, values in arrays.items():
            file[name] = values
        file.attrs["half_stepped"] = walkers.half_stepped

    write_hdf5(path, write)


def load_walkers(path: Path, device: torch.device | str = "cpu") -> Walkers:
    """Read walkers that `save_walkers` wrote.

    Raises:
        JournalError: the file is missing or damaged.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            data = {name: values[()] for name, values in file.items()}
            half_stepped = bool(file.attrs["half_stepped"])
        return _from_arrays(data, half_stepped, device)
    except FileNotFoundError:
        raise JournalError(f"{path} is missing, though the journal names it") from None
    except (OSError, KeyError, ValueError) as error:
        raise JournalError(f"{path} can't be read: {error}") from error


def _from_arrays(data: dict[str, Any], half_stepped: bool, device: torch.device | str) -> Walkers:
    structures = []
    for index, (first, last) in enumerate(zip(data["ptr"][:-1], data["ptr"][1:], strict=True)):
        atoms = slice(first, last)
        structures.append(
            Structure(
                numbers=data["numbers"][atoms],
                positions=data["positions"][atoms],
                cell=data["cells"][index],
                pbc=data["pbc"][index],
                magmoms=data["magmoms"][atoms] if data["has_magmoms"][index] else None,
                charges=data["charges"][atoms] if data["has_charges"][index] else None,
                fixed=data["fixed"][atoms],
            )
        )
    generators = []
    for state in data["generators"]:
        bits = np.random.PCG64()
        bits.state = json.loads(state)
        generators.append(np.random.Generator(bits))
    count = len(structures)
    return Walkers(
        batch=Batch.from_structures(structures, device),
        structures=structures,
        trajectories=data["trajectories"],
        steps=data["steps"],
        momenta=torch.tensor(data["momenta"], device=device),
        masses=torch.tensor(atomic_masses[data["numbers"]], device=device),
        fixed=torch.tensor(data["fixed"], device=device),
        temperatures=data["temperatures"],
        # Files of version 0.1 have neither.
        pressures=data.get("pressures", np.zeros(count)),
        chains=data.get("chains", np.zeros((count, 2, CHAIN_LENGTH))),
        at_rest=data["at_rest"],
        half_stepped=half_stepped,
        generators=generators,
    )
