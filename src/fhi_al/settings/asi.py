"""The settings of FHI-aims, or of another library with the ASI interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, field_validator

from fhi_al.errors import InputError
from fhi_al.record.registry import Citation
from fhi_al.settings.base import RunFile, RunPath
from fhi_al.settings.control_in import SCF_KEYWORDS, ControlIn
from fhi_al.settings.engine import ReferenceSettings, refuse_unknown

AimsValue: TypeAlias = str | int | float | bool

BLUM_2009 = Citation(
    "Blum2009",
    r"""@article{Blum2009,
  author = {Blum, Volker and Gehrke, Ralf and Hanke, Felix and Havu, Paula and Havu, Ville and
    Ren, Xinguo and Reuter, Karsten and Scheffler, Matthias},
  title = {Ab initio molecular simulations with numeric atom-centered orbitals},
  journal = {Comput. Phys. Commun.},
  volume = {180},
  pages = {2175--2196},
  year = {2009},
  doi = {10.1016/j.cpc.2009.06.022}
}""",
)
STISHENKO_2023 = Citation(
    "Stishenko2023",
    r"""@article{Stishenko2023,
  author = {Stishenko, Pavel V. and Keal, Thomas W. and Woodley, Scott M. and Blum, Volker and
    Hourahine, Benjamin and Maurer, Reinhard J. and Logsdail, Andrew J.},
  title = {Atomic Simulation Interface ({ASI}): application programming interface for electronic
    structure codes},
  journal = {J. Open Source Softw.},
  volume = {8},
  number = {85},
  pages = {5186},
  year = {2023},
  doi = {10.21105/joss.05186}
}""",
)


def _as_aims(value: AimsValue) -> str:
    """Write a value as FHI-aims reads it."""
    if isinstance(value, bool):
        return ".true." if value else ".false."
    text = str(value).split("#", 1)[0].strip()
    if not text or "\n" in text:
        raise ValueError(f"expected the rest of a line of control.in, got {value!r}")
    return text


class AsiSettings(ReferenceSettings):
    """The compiled FHI-aims library, or another with the ASI interface, in this process."""

    function = "fhi_al.reference.asi:AsiEngine"
    title = "FHI-aims through ASI, with the settings of control.in"
    papers = (BLUM_2009, STISHENKO_2023)
    parallel = True
    reads_control = True
    periodicities = frozenset({0, 3})
    history_free: ClassVar[Mapping[str, Any]] = {"reuse_density": False}
    manual_keys: ClassVar[Mapping[str, str]] = {
        "species_dir": "species_dir",
        "aims_lib_path": "library",
    }
    packages = ("asi4py",)

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
        refuse_unknown(value, SCF_KEYWORDS, "a keyword of the SCF")
        return tuple(
            {name: _as_aims(setting) for name, setting in overrides.items()} for overrides in value
        )

    def rescued(
        self, control: ControlIn | None, overrides: Mapping[str, Any]
    ) -> tuple[Self, ControlIn | None]:
        """See `ReferenceSettings.rescued`: keywords of control.in."""
        assert control is not None
        return self, control.with_keywords(overrides)

    def control_problems(
        self, control: ControlIn, elements: Iterable[str], periodic: bool
    ) -> list[str]:
        """See `ReferenceSettings.control_problems`: what the library would miss in it."""
        try:
            control.for_aims(elements, periodic, self.species_dir)
        except InputError as error:
            return error.problems
        return []
