"""The reference engines, and what `active_learning_settings.yaml` says of each in REFERENCE.

An engine is a class of settings, which also says what the engine can do, named in `ENGINES`, and a
module in `reference/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from fhi_al.record.papers import KABYLDA_2025
from fhi_al.record.registry import Citation
from fhi_al.settings import control_in
from fhi_al.settings.asi import AsiSettings
from fhi_al.settings.base import (
    AL_FILE,
    Count,
    Positive,
    expand_path,
)
from fhi_al.settings.control_in import ControlIn
from fhi_al.settings.engine import ReferenceSettings, engines, refuse_unknown

__all__ = [
    "ENGINES",
    "ENGINE_PACKAGES",
    "AseSettings",
    "AsiSettings",
    "MlffSettings",
    "ReferenceSettings",
    "XtbSettings",
]

_KEYWORD = r"^[A-Za-z_]\w*$"

XTB_RESCUE = ("max_iterations", "mixer_damping", "electronic_temperature_K", "accuracy")
"""The settings of tblite that a rescue may change."""

BANNWARTH_2019 = Citation(
    "Bannwarth2019",
    r"""@article{Bannwarth2019,
  author = {Bannwarth, Christoph and Ehlert, Sebastian and Grimme, Stefan},
  title = {{GFN2-xTB}---An Accurate and Broadly Parametrized Self-Consistent Tight-Binding Quantum
    Chemical Method with Multipole Electrostatics and Density-Dependent Dispersion Contributions},
  journal = {J. Chem. Theory Comput.},
  volume = {15},
  pages = {1652--1671},
  year = {2019},
  doi = {10.1021/acs.jctc.8b01176}
}""",
)
GRIMME_2017 = Citation(
    "Grimme2017",
    r"""@article{Grimme2017,
  author = {Grimme, Stefan and Bannwarth, Christoph and Shushkov, Philip},
  title = {A Robust and Accurate Tight-Binding Quantum Chemical Method for Structures, Vibrational
    Frequencies, and Noncovalent Interactions of Large Molecular Systems Parametrized for All
    spd-Block Elements ({Z} = 1--86)},
  journal = {J. Chem. Theory Comput.},
  volume = {13},
  pages = {1989--2009},
  year = {2017},
  doi = {10.1021/acs.jctc.7b00118}
}""",
)
SUN_2020 = Citation(
    "Sun2020",
    r"""@article{Sun2020,
  author = {Sun, Qiming and others},
  title = {Recent developments in the {PySCF} program package},
  journal = {J. Chem. Phys.},
  volume = {153},
  pages = {024109},
  year = {2020},
  doi = {10.1063/5.0006074}
}""",
)
XTB_PAPERS = {"GFN2-xTB": BANNWARTH_2019, "GFN1-xTB": GRIMME_2017}


class XtbSettings(ReferenceSettings):
    """Extended tight binding (tblite)."""

    function = "fhi_al.reference.xtb:XtbEngine"
    title = "extended tight binding"
    papers = tuple(XTB_PAPERS.values())
    periodicities = frozenset({0, 3})
    # tblite takes the directions, and then repeats along all three.
    repeats_along_all = True
    packages = ("tblite",)

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
        refuse_unknown(value, XTB_RESCUE, "a setting of an SCF")
        for overrides in value:
            if overrides.get("max_iterations", 1) % 1:
                raise ValueError("expected a whole number for max_iterations")
            if overrides.get("mixer_damping", 1) > 1:
                raise ValueError("expected a mixer_damping of at most 1")
        return tuple(
            {name: int(x) if name == "max_iterations" else x for name, x in overrides.items()}
            for overrides in value
        )

    @property
    def words(self) -> str:
        """See `ReferenceSettings.words`."""
        try:
            return f"{self.method} (tblite {metadata.version('tblite')})"
        except metadata.PackageNotFoundError:
            return self.method

    @property
    def citations(self) -> tuple[Citation, ...]:
        """See `ReferenceSettings.citations`."""
        return (XTB_PAPERS[self.method],)


class AseSettings(ReferenceSettings):
    """Any ASE calculator, which itself refuses what it can't do."""

    function = "fhi_al.reference.ase:AseEngine"
    title = "an ASE calculator"
    papers = (SUN_2020,)
    packages = ("pyscf",)

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

    @property
    def words(self) -> str:
        """See `ReferenceSettings.words`: the calculator and its arguments."""
        given = ", ".join(f"{name} = {value}" for name, value in (self.arguments or {}).items())
        return self.calculator.rpartition(".")[2] + (f" ({given})" if given else "")

    @property
    def citations(self) -> tuple[Citation, ...]:
        """See `ReferenceSettings.citations`."""
        return (SUN_2020,) if "pyscf" in self.calculator.lower() else ()

    @property
    def charges(self) -> bool:
        """See `ReferenceSettings.charges`."""
        return self.charge is not None

    @property
    def spins(self) -> bool:
        """See `ReferenceSettings.spins`."""
        return self.spin is not None

    def rescued(
        self, control: ControlIn | None, overrides: Mapping[str, Any]
    ) -> tuple[Self, ControlIn | None]:
        """See `ReferenceSettings.rescued`: arguments of the calculator."""
        return self.model_copy(update={"arguments": {**self.arguments, **overrides}}), control

    def _unheard(self, charge: float, unpaired: float) -> Iterator[str]:
        for name, value in (("charge", charge), ("spin", unpaired)):
            if value and getattr(self, name) is None:
                yield (
                    f"{AL_FILE}: REFERENCE.{name} is missing: {control_in.FILE} asks for a {name} "
                    f"of {value:g}; give the name of the calculator's keyword that takes it."
                )


class MlffSettings(ReferenceSettings):
    """A pretrained model as teacher."""

    function = "fhi_al.reference.mlff:MlffEngine"
    title = "a pretrained model"
    papers = (KABYLDA_2025,)
    packages = ("so3krates-torch",)

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

    @property
    def words(self) -> str:
        """See `ReferenceSettings.words`."""
        return "SO3LR" if self.model == "so3lr" else f"the pretrained model {self.model}"

    @property
    def citations(self) -> tuple[Citation, ...]:
        """See `ReferenceSettings.citations`."""
        return (KABYLDA_2025,) if self.model == "so3lr" else ()

    @property
    def charges(self) -> bool:
        """See `ReferenceSettings.charges`."""
        return self.model == "so3lr"

    @property
    def spins(self) -> bool:
        """See `ReferenceSettings.spins`."""
        return self.model == "so3lr"


ENGINES = engines(AsiSettings, XtbSettings, AseSettings, MlffSettings)
"""What labels structures, by the name in the REFERENCE section."""

ENGINE_PACKAGES = tuple(package for kind in ENGINES.values() for package in kind.section.packages)
"""Python packages behind the engines, whose versions a report tells."""
