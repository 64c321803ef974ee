"""`active_learning_settings.yaml`: the MD section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import field_validator

from fhi_al.settings.base import (
    AnyCase,
    Positive,
    Section,
    Seed,
)

_LATER = ("npt", "nph", "npe", "muvt", "uvt")


class MdSettings(Section):
    """MD: molecular dynamics, with the models as with the reference, for all trajectories."""

    renamed: ClassVar[Mapping[str, str]] = {
        "timestep": "timestep_fs",
        "friction": "friction_per_fs",
        "temperature": "temperature_K",
    }

    stat_ensemble: Annotated[Literal["nve", "nvt"], AnyCase] = "nvt"
    """Statistical ensemble, nve or nvt."""

    thermostat: Annotated[Literal["langevin"], AnyCase] = "langevin"
    """Thermostat of nvt."""

    timestep_fs: Positive = 0.5
    """Time step in fs. Old name: `timestep`."""

    friction_per_fs: Positive = 0.01
    """Friction of the Langevin thermostat in 1/fs. Old name: `friction`."""

    temperature_K: Positive = 300.0
    """Temperature in K, of the thermostat and of initial velocities. Old name: `temperature`."""

    seed: Seed = 42
    """Seed of velocities and thermostat noise; each trajectory gets its own stream."""

    @field_validator("stat_ensemble", mode="before")
    @classmethod
    def _supported(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() in _LATER:
            raise ValueError(
                "this ensemble is not supported yet; the supported ones are nve and nvt"
            )
        return value
