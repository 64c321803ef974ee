"""`active_learning_settings.yaml`: the MD section, and which trajectory moves by which settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from fhi_al.md.barostats import BAROSTATS
from fhi_al.md.protocol import Limits, MdProtocol, Ramp
from fhi_al.md.thermostats import THERMOSTATS
from fhi_al.settings.base import (
    AnyCase,
    Count,
    NonNegative,
    NonNegativeInteger,
    Number,
    OneOf,
    Positive,
    Section,
    Seed,
)

_LATER = ("nph", "npe", "muvt", "uvt")


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Temperatures = Annotated[tuple[Positive, ...], BeforeValidator(_listed), Field(min_length=1)]
Pressures = Annotated[tuple[Number, ...], BeforeValidator(_listed), Field(min_length=1)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_listed), Field(min_length=1)]
Indices = Annotated[tuple[NonNegativeInteger, ...], BeforeValidator(_listed), Field(min_length=1)]
FileNames = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


class MdSettings(Section):
    """MD: molecular dynamics, with the models as with the reference.

    Either one set of settings for all trajectories, or a list of sets, each for some of them. Two
    molecules at two temperatures and a crystal under pressure:
    `MD: [{geometries: [a.xyz, b.xyz], temperature_K: [300, 600]}, {geometries: c.cif,
    stat_ensemble: npt, pressure_GPa: 5}]`.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "timestep": "timestep_fs",
        "friction": "friction_per_fs",
        "temperature": "temperature_K",
        "pressure": "pressure_GPa",
    }

    trajectories: Indices | None = None
    """Numbers of the trajectories that these settings are for, counted from 0. Settings without
    `trajectories` and `geometries` are dealt round over all trajectories that no others name."""

    geometries: FileNames | None = None
    """File names of the geometries whose trajectories these settings are for."""

    stat_ensemble: Annotated[Literal["nve", "nvt", "npt"], AnyCase] = "nvt"
    """Statistical ensemble, nve, nvt or npt. npt needs geometries that are periodic in all three
    directions, without fixed atoms."""

    thermostat: Annotated[str, OneOf(THERMOSTATS)] = "langevin"
    """Thermostat of nvt and npt."""

    barostat: Annotated[str, OneOf(BAROSTATS)] = "scr"
    """Barostat of npt."""

    timestep_fs: Positive = 0.5
    """Time step in fs. Old name: `timestep`."""

    friction_per_fs: Positive = 0.01
    """Friction of the Langevin thermostat in 1/fs. Old name: `friction`."""

    thermostat_time_fs: Positive = 100.0
    """Relaxation time of the thermostats bussi and nhc, in fs."""

    temperature_K: Temperatures = (300.0,)
    """Temperature in K. Several make a grid with the pressures, whose points are dealt to the
    trajectories of each geometry in turn. Old name: `temperature`."""

    temperature_end_K: Positive | None = None
    """Temperature in K at the end of a ramp that begins at temperature_K; see `ramp_steps`."""

    initial_temperature_K: Positive | None = None
    """Temperature in K of the initial velocities; nothing: that of the thermostat."""

    pressure_GPa: Pressures = (0.0,)
    """Pressure in GPa (npt); see temperature_K for several. Old name: `pressure`."""

    pressure_end_GPa: Number | None = None
    """Pressure in GPa at the end of a ramp that begins at pressure_GPa; see `ramp_steps`."""

    ramp_steps: Count | None = None
    """MD steps of a trajectory after which its ramps are at their end. A ramp holds in active
    learning; the initial dataset is sampled at its beginning."""

    ramp_labels: Count | None = None
    """Size of the training set at which ramps are at their end, in place of `ramp_steps`: hotter
    only as the models learn."""

    cell_change: Annotated[Literal["isotropic", "anisotropic"], AnyCase] = "isotropic"
    """Whether npt changes only the volume of the cell, or its shape as well."""

    compressibility_per_GPa: Positive = 0.01
    """Isothermal compressibility in 1/GPa, one over the bulk modulus (silicon 0.01, water 0.45).
    It only decides, with barostat_time_fs, how fast the volume relaxes (npt)."""

    barostat_time_fs: Positive = 1000.0
    """Relaxation time of the volume in fs, if the compressibility is right (npt)."""

    seed: Seeds = (42,)
    """Seed of velocities and thermostat noise. Each trajectory gets its own stream, so that one
    seed is enough; several are dealt to the trajectories in turn."""

    bias_strength: NonNegative = 0.0
    """Strength of a bias towards structures that the models disagree on (HAL): the trajectory
    moves on the committee's mean energy less this times the standard deviation of its energies.
    Not used for the initial dataset."""

    bias_max_force_eV_per_A: Positive = 1.0
    """Largest force of that bias on an atom in eV/Å; all of a structure's bias is scaled down to
    it."""

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

    @field_validator("stat_ensemble", mode="before")
    @classmethod
    def _supported(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() in _LATER:
            raise ValueError(
                "this ensemble is not supported; the supported ones are nve, nvt and npt"
            )
        return value

    def disagreements(self) -> Iterator[str]:
        """Refuse ramps without an end in time, or with two, and doubled assignments."""
        ends = self.temperature_end_K, self.pressure_end_GPa
        if ends != (None, None) and (self.ramp_steps is None) == (self.ramp_labels is None):
            yield "a ramp needs one of ramp_steps and ramp_labels."
        if ends == (None, None) and (self.ramp_steps or self.ramp_labels):
            yield "a ramp needs temperature_end_K or pressure_end_GPa."
        if self.trajectories is not None and self.geometries is not None:
            yield "trajectories and geometries are both given; keep one of them."

    def unused(self) -> Iterator[tuple[str, str]]:
        """The settings that are given without meaning, each with what makes them meaningless."""
        ensemble = f"`stat_ensemble: {self.stat_ensemble}`"
        why: dict[str, str] = {}
        if self.stat_ensemble == "nve":
            why |= dict.fromkeys(("thermostat", *THERMOSTATS.without_effect()), ensemble)
        else:
            others = THERMOSTATS.without_effect(self.thermostat)
            why |= dict.fromkeys(others, f"`thermostat: {self.thermostat}`")
        if self.stat_ensemble != "npt":
            of_npt = ("barostat", "pressure_GPa", "pressure_end_GPa", *BAROSTATS.without_effect())
            why |= dict.fromkeys(of_npt, ensemble)
        else:
            others = BAROSTATS.without_effect(self.barostat)
            why |= dict.fromkeys(others, f"`barostat: {self.barostat}`")
        yield from ((name, reason) for name, reason in why.items() if self.given(name))

    @property
    def limits(self) -> Limits:
        """What a trajectory may not go beyond: the settings of the same names."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})

    def protocols(self) -> list[MdProtocol]:
        """The points of the grid of temperatures and pressures, pressures running faster."""
        return [
            self._protocol(temperature, pressure)
            for temperature in self.temperature_K
            for pressure in self.pressure_GPa
        ]

    def _protocol(self, temperature: float, pressure: float) -> MdProtocol:
        from ase import units

        end_pressure = pressure if self.pressure_end_GPa is None else self.pressure_end_GPa
        over = self.ramp_steps or self.ramp_labels or 1
        by: Literal["steps", "labels"] = "labels" if self.ramp_labels else "steps"
        return MdProtocol(
            ensemble=self.stat_ensemble,
            thermostat=self.thermostat,
            barostat=self.barostat,
            timestep_fs=self.timestep_fs,
            friction_per_fs=self.friction_per_fs,
            thermostat_time_fs=self.thermostat_time_fs,
            barostat_time_fs=self.barostat_time_fs,
            compressibility=self.compressibility_per_GPa / units.GPa,
            anisotropic=self.cell_change == "anisotropic",
            temperature=Ramp(temperature, self.temperature_end_K or temperature, over, by),
            pressure=Ramp(pressure * units.GPa, end_pressure * units.GPa, over, by),
            initial_temperature_K=self.initial_temperature_K or temperature,
            seed=self.seed[0],
            bias=self.bias_strength,
            max_bias_force=self.bias_max_force_eV_per_A,
        )
