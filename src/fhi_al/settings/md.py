"""`active_learning_settings.yaml`: the MD section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from fhi_al.settings.base import (
    AnyCase,
    Number,
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

    max_force_eV_per_A: Positive = 500.0
    """A larger component of a force, of any member, means that the trajectory is unstable. A bond
    compressed to half its length has about 100 eV/Å."""

    max_speed_A_per_fs: Positive = 0.5
    """A larger speed of an atom, in Å/fs, means that the trajectory is unstable. Hydrogen has 0.027
    at 300 K."""

    max_temperature_K: Positive | None = None
    """A higher kinetic temperature means that the trajectory is unstable. Nothing: 20 times
    temperature_K, and 5000 K for the fluctuations of a few atoms."""

    min_distance_factor: Annotated[Positive, Field(lt=1)] = 0.5
    """Two atoms nearer than this factor times the sum of their covalent radii mean that the
    trajectory is unstable, or that geometry.in is wrong."""

    max_separation_A: Positive = 10.0
    """An atom of a molecule that is farther than this from all others, in Å, has flown off: the
    trajectory is unstable."""

    max_volume_factor: Annotated[Number, Field(gt=1)] = 4.0
    """A cell that is this factor larger or smaller than that of geometry.in has collapsed."""

    def hottest(self, temperature_K: float) -> float:
        """The highest sane kinetic temperature in K of a trajectory that is held at this one."""
        if self.max_temperature_K is not None:
            return self.max_temperature_K
        return 20.0 * temperature_K + 5000.0

    @field_validator("stat_ensemble", mode="before")
    @classmethod
    def _supported(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() in _LATER:
            raise ValueError(
                "this ensemble is not supported yet; the supported ones are nve and nvt"
            )
        return value
