"""Models in the forms that other programs load, by mace-torch's own converters."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from e3nn.util import jit

from fhi_al.ensemble.architecture import (
    DTYPES,
    ModelSpec,
    default_dtype,
    load_model_file,
    spec_of_model,
)
from fhi_al.record.exports import MODEL_FORMATS
from fhi_al.record.files import write_file
from fhi_al.record.hush import hushed


@dataclass(frozen=True)
class Converted:
    """A model that was written.

    Attributes:
        file: where to.
        source: the `.model` file that it was made of.
        format: a key of `MODEL_FORMATS`.
        dtype: precision of its weights.
        spec: all of it but for the weights.
        n_parameters: weights.
        sha256: of the file.
    """

    file: Path
    source: Path
    format: str
    dtype: str
    spec: ModelSpec
    n_parameters: int
    sha256: str


def convert(
    files: Sequence[Path], formats: Sequence[str], dtype: str | None, target: Path
) -> list[Converted]:
    """Write models in other formats.

    Args:
        files: `.model` files of this program.
        formats: keys of `MODEL_FORMATS`.
        dtype: `float32` or `float64`; None: that of each model.
        target: folder of the new files. One of a changed precision has it in its name.
    """
    converted = []
    for source in files:
        original = load_model_file(source, trusted=True)
        own = str(next(original.parameters()).dtype).removeprefix("torch.")
        precision = dtype or own
        model = original.to(DTYPES[precision]).eval()
        stem = source.stem if precision == own else f"{source.stem}_{precision}"
        for name in formats:
            how = MODEL_FORMATS[name]
            path = target / f"{stem}{how.suffix}"
            with default_dtype(precision), hushed(logs=True):
                contents = io.BytesIO()
                how.load()(deepcopy(model), contents)
            write_file(path, lambda file, c=contents: file.write(c.getbuffer()))  # type: ignore[misc]
            converted.append(
                Converted(
                    file=path,
                    source=source,
                    format=name,
                    dtype=precision,
                    spec=spec_of_model(model, precision, str(source)),
                    n_parameters=sum(parameter.numel() for parameter in model.parameters()),
                    sha256=hashlib.sha256(contents.getbuffer()).hexdigest(),
                )
            )
    return converted


def write_torchscript(model: torch.nn.Module, file: BinaryIO) -> None:
    """Write what TorchScript loads, without Python."""
    torch.jit.save(jit.compile(model), file)


def write_lammps(model: torch.nn.Module, file: BinaryIO) -> None:
    """Write what `pair_style mace` of LAMMPS loads."""
    from mace.calculators import LAMMPS_MACE

    torch.jit.save(jit.compile(LAMMPS_MACE(model)), file)


def write_mliap(model: Any, file: BinaryIO) -> None:
    """Write what LAMMPS unpickles; it needs mace-torch there, and nothing else.

    mace_create_lammps_model also turns the model into one for cuequivariance, which then is needed.
    """
    from mace.calculators.lammps_mliap_mace import LAMMPS_MLIAP_MACE

    model.lammps_mliap = True
    torch.save(LAMMPS_MLIAP_MACE(model), file)
