"""`active_learning_settings.yaml`: the REFERENCE section, one class for each engine."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from fhi_al.settings.base import (
    Count,
    Positive,
    RunFile,
    RunPath,
    Section,
    expand_path,
)

_KEYWORD = r"^[A-Za-z_]\w*$"


class AsiSettings(Section):
    """The compiled FHI-aims library, or another with the ASI interface, in this process."""

    engine: Literal["asi"] = "asi"
    """The engine's name."""

    library: RunFile
    """Give the path of the compiled library (not of an executable) here, or as
    ACTIVE_LEARNING.aims_lib_path."""

    species_dir: RunPath | None = None
    """Folder with the species defaults (`01_H_default`, ...), for the elements that control.in has
    no block for. Left out: ACTIVE_LEARNING.species_dir."""

    reuse_density: bool = True
    """Whether each calculation starts from the density before it. Always off in deterministic
    runs."""

    log: Annotated[str, Field(pattern=r"^[\w.+-]+$")] = "asi.log"
    """Name of the file that the library's output goes to, in the folder of its group."""


class XtbSettings(Section):
    """Extended tight binding (tblite)."""

    engine: Literal["xtb"] = "xtb"
    """The engine's name."""

    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    """Parametrisation."""

    accuracy: Positive = 1.0
    """Factor of the convergence thresholds; smaller is stricter."""

    electronic_temperature_K: Positive = 300.0
    """Temperature of the electrons in K."""

    max_iterations: Count = 250
    """Most SCF iterations."""


class AseSettings(Section):
    """Any ASE calculator."""

    engine: Literal["ase"] = "ase"
    """The engine's name."""

    calculator: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
    """Give the dotted path of the calculator's class, such as
    fhi_al.reference.pyscf.PySCF."""

    arguments: dict[str, Any] = Field(default={})
    """Keyword arguments of that class."""

    charge: Annotated[str | None, Field(pattern=_KEYWORD)] = None
    """Name of its keyword that takes the total charge in e; the value comes from control.in."""

    spin: Annotated[str | None, Field(pattern=_KEYWORD)] = None
    """Name of its keyword that takes the number of unpaired electrons."""

    energy: Literal["free_energy", "energy"] = "free_energy"
    """Which result of the calculator is the energy that its forces derive from."""


class MlffSettings(Section):
    """A pretrained model as teacher."""

    engine: Literal["mlff"] = "mlff"
    """The engine's name."""

    model: str
    """Give `so3lr`, or the path of a MACE model file. Such a file is a pickle: it can run code, so
    name only one that you trust."""

    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = "auto"
    """Where the model runs; `auto`: a GPU if there is one."""

    dtype: Literal["float32", "float64"] = "float64"
    """Precision of the model."""

    @field_validator("model")
    @classmethod
    def _name_or_file(cls, value: str, info: ValidationInfo) -> str:
        if value.lower() == "so3lr":
            return "so3lr"
        path = expand_path(value, info)
        if not os.path.isfile(path):
            raise ValueError(
                f"expected so3lr, or the path of a MACE model file (there is no file {path})"
            )
        return str(path)


ReferenceSettings: TypeAlias = AsiSettings | XtbSettings | AseSettings | MlffSettings

REFERENCE_SETTINGS: dict[str, type[ReferenceSettings]] = {
    "asi": AsiSettings,
    "xtb": XtbSettings,
    "ase": AseSettings,
    "mlff": MlffSettings,
}
"""Name of the engine -> the class of its section."""
