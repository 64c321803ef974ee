"""Formats that models and datasets can be exported in, for other programs.

The help of a command lists them: importing this imports nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fhi_al.record.registry import Choice, Registry


@dataclass(frozen=True, kw_only=True)
class ExportFormat(Choice[Callable[..., Any]]):
    """An entry of a registry of formats.

    Functions of `MODEL_FORMATS` write a model into an open binary file, those of `DATASET_FORMATS`
    write labels, by the name of their set, into a folder and give the files.

    Attributes:
        suffix: how the names of its files end.
    """

    suffix: str


MODEL_FORMATS = Registry[ExportFormat](
    "a format of models",
    {
        "model": ExportFormat("torch:save", "MACE model for ASE and mace-torch", suffix=".model"),
        "torchscript": ExportFormat(
            "fhi_al.ensemble.conversion:write_torchscript",
            "the same as TorchScript, for C++",
            suffix=".torchscript.pt",
        ),
        "lammps": ExportFormat(
            "fhi_al.ensemble.conversion:write_lammps",
            "for LAMMPS with `pair_style mace`",
            suffix=".lammps.pt",
        ),
        "mliap": ExportFormat(
            "fhi_al.ensemble.conversion:write_mliap",
            "for LAMMPS with `pair_style mliap unified`",
            suffix=".mliap.pt",
        ),
    },
)
DATASET_FORMATS = Registry[ExportFormat](
    "a format of datasets",
    {
        "extxyz": ExportFormat(
            "fhi_al.ensemble.datasets:write_extxyz", "datasets as extended XYZ", suffix=".xyz"
        ),
        "hdf5": ExportFormat(
            "fhi_al.ensemble.datasets:write_hdf5", "datasets for mace_run_train", suffix=".h5"
        ),
        "ase-db": ExportFormat(
            "fhi_al.ensemble.datasets:write_database",
            "datasets as a database of ASE",
            suffix=".db",
        ),
    },
)
