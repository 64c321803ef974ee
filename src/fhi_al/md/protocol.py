"""What one trajectory is to do: its integrator, its conditions, and the limits of what is sane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ensemble = Literal["nve", "nvt", "npt"]


@dataclass(frozen=True)
class Ramp:
    """A quantity that goes from one value to another, and stays there.

    Attributes:
        start: the first value.
        end: the last one.
        over: when the end is reached, in what `by` counts.
        by: MD steps of the trajectory, or labels in the training set.
    """

    start: float
    end: float
    over: int = 1
    by: Literal["steps", "labels"] = "steps"

    @classmethod
    def constant(cls, value: float) -> Ramp:
        """No ramp at all."""
        return cls(value, value)

    def value(self, step: int, n_train: int) -> float:
        """The value now.

        Args:
            step: MD steps that the trajectory has made.
            n_train: labels in the training set.
        """
        progress = min(1.0, (step if self.by == "steps" else n_train) / self.over)
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True)
class MdProtocol:
    """How one trajectory moves.

    Attributes:
        ensemble: what is constant, besides the number of atoms.
        thermostat: a key of `THERMOSTATS`; has no meaning in nve.
        barostat: a key of `BAROSTATS`; has no meaning but in npt.
        timestep_fs: in fs.
        friction_per_fs: of Langevin dynamics, in 1/fs.
        thermostat_time_fs: of the other thermostats, in fs.
        barostat_time_fs: relaxation time of the volume, in fs.
        compressibility: isothermal, in Å^3/eV.
        anisotropic: whether the shape of the cell changes too.
        temperature: to be held, in K.
        pressure: to be held, in eV/Å^3.
        initial_temperature_K: of the velocities at the start, in K.
        seed: of velocities and noise.
        bias: strength of the drift towards uncertainty; see `md.bias`.
        max_bias_force: largest force on an atom of it, in eV/Å.
    """

    ensemble: Ensemble = "nvt"
    thermostat: str = "langevin"
    barostat: str = "scr"
    timestep_fs: float = 0.5
    friction_per_fs: float = 0.01
    thermostat_time_fs: float = 100.0
    barostat_time_fs: float = 1000.0
    compressibility: float = 1.0
    anisotropic: bool = False
    temperature: Ramp = Ramp(300.0, 300.0)
    pressure: Ramp = Ramp(0.0, 0.0)
    initial_temperature_K: float = 300.0
    seed: int = 42
    bias: float = 0.0
    max_bias_force: float = 1.0


@dataclass(frozen=True)
class Limits:
    """What a trajectory may not go beyond; if it does, it is unstable.

    Attributes:
        max_force_eV_per_A: the largest component of a force, of any member, in eV/Å.
        max_speed_A_per_fs: the largest speed of an atom, in Å/fs.
        max_temperature_K: the highest kinetic temperature in K; None: it follows from that of the
            thermostat.
        min_distance_factor: the least distance of two atoms, over the sum of their covalent radii.
        max_separation_A: the largest distance of an atom of a molecule from all others, in Å.
        max_volume_factor: between the volume of the cell and that of the start, either way.
    """

    max_force_eV_per_A: float
    max_speed_A_per_fs: float
    max_temperature_K: float | None
    min_distance_factor: float
    max_separation_A: float
    max_volume_factor: float

    def hottest(self, temperature_K: float) -> float:
        """The highest sane kinetic temperature in K of a trajectory that is held at this one."""
        if self.max_temperature_K is not None:
            return self.max_temperature_K
        return 20.0 * temperature_K + 5000.0
