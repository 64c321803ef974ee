"""`active_learning_settings.yaml`: the REFERENCE section, one class for each engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from fhi_al.settings.base import (
    Count,
    Positive,
    RunFile,
    RunPath,
    Section,
    expand_path,
    unknown,
)

_KEYWORD = r"^[A-Za-z_]\w*$"

SCF_KEYWORDS = (
    "adjust_scf",
    "basis_threshold",
    "charge_mix_param",
    "density_update_method",
    "empty_states",
    "ini_linear_mix_param",
    "ini_linear_mixing",
    "ini_spin_mix_param",
    "KS_method",
    "mixer",
    "mixer_threshold",
    "n_max_broyden",
    "n_max_pulay",
    "occupation_acc",
    "occupation_type",
    "override_illconditioning",
    "prec_mix_param",
    "precondition_max_l",
    "preconditioner",
    "relative_fp_charge_mix",
    "sc_abandon_etot",
    "sc_accuracy_eev",
    "sc_accuracy_etot",
    "sc_accuracy_forces",
    "sc_accuracy_rho",
    "sc_accuracy_stress",
    "sc_init_factor",
    "sc_init_iter",
    "sc_iter_limit",
    "spin_mix_param",
)
"""The keywords of control.in that a rescue may set: those that lead the SCF to convergence.

Source: the FHI-aims manual, section on the s.c.f. cycle, and FHI-aims' own reader of control.in.
"""

AimsValue: TypeAlias = str | int | float | bool
XTB_RESCUE = ("max_iterations", "mixer_damping", "electronic_temperature_K", "accuracy")
"""The settings of tblite that a rescue may change."""


def _refuse_unknown(rescues: Iterable[Mapping[str, Any]], known: Iterable[str], what: str) -> None:
    for name in (name for overrides in rescues for name in overrides):
        if name not in known:
            raise ValueError(unknown("", name, known, what))


def _as_aims(value: AimsValue) -> str:
    """Write a value as FHI-aims reads it."""
    if isinstance(value, bool):
        return ".true." if value else ".false."
    text = str(value).split("#", 1)[0].strip()
    if not text or "\n" in text:
        raise ValueError(f"expected the rest of a line of control.in, got {value!r}")
    return text


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

    scf_rescue: tuple[dict[str, AimsValue], ...] = ()
    """What to try when an SCF fails, one entry after the other, each with a fresh SCF: keywords of
    control.in and their values, of those that lead the SCF to convergence. See faults.md.
    """

    @field_validator("scf_rescue")
    @classmethod
    def _scf_keywords(
        cls, value: tuple[dict[str, AimsValue], ...]
    ) -> tuple[dict[str, AimsValue], ...]:
        _refuse_unknown(value, SCF_KEYWORDS, "a keyword of the SCF")
        return tuple(
            {name: _as_aims(setting) for name, setting in overrides.items()} for overrides in value
        )


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

    mixer_damping: Annotated[Positive, Field(le=1)] = 0.4
    """Share of the new charges that is mixed in at each iteration; smaller is slower and safer."""

    scf_rescue: tuple[dict[str, Positive], ...] = ()
    """What to try when an SCF fails, one entry after the other: max_iterations, mixer_damping,
    electronic_temperature_K and accuracy with other values. See faults.md."""

    @field_validator("scf_rescue")
    @classmethod
    def _own_keys(cls, value: tuple[dict[str, float], ...]) -> tuple[dict[str, float], ...]:
        _refuse_unknown(value, XTB_RESCUE, "a setting of an SCF")
        for overrides in value:
            if overrides.get("max_iterations", 1) % 1:
                raise ValueError("expected a whole number for max_iterations")
            if overrides.get("mixer_damping", 1) > 1:
                raise ValueError("expected a mixer_damping of at most 1")
        return tuple(
            {name: int(x) if name == "max_iterations" else x for name, x in overrides.items()}
            for overrides in value
        )


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

    scf_rescue: tuple[dict[str, Any], ...] = ()
    """What to try when an SCF fails, one entry after the other: keyword arguments that are added to
    those above, or replace them. See faults.md."""


class MlffSettings(Section):
    """A pretrained model as teacher."""

    scf_rescue: ClassVar[tuple[dict[str, Any], ...]] = ()

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
