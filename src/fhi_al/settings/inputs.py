"""What the input files say, as one immutable value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from fhi_al.atoms.structure import Structure
from fhi_al.settings.active_learning import ActiveLearning, Misc, Parallel
from fhi_al.settings.base import AL_FILE, MACE_FILE, Section
from fhi_al.settings.control_in import ControlIn
from fhi_al.settings.engine import ReferenceSettings
from fhi_al.settings.geometries import Geometry
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.md import MdSettings
from fhi_al.settings.trajectories import Trajectory


@dataclass(frozen=True)
class ActiveLearningFile:
    """All of `active_learning_settings.yaml`; `reference` is None only where none is needed."""

    active_learning: ActiveLearning = field(default_factory=ActiveLearning)
    md: tuple[MdSettings, ...] = (MdSettings(),)
    reference: ReferenceSettings | None = None
    parallel: Parallel = field(default_factory=Parallel)
    misc: Misc = field(default_factory=Misc)


@dataclass(frozen=True)
class ConvergenceSettings:
    """The rules of the convergence stage, settled between the two files that can give them.

    Attributes:
        patience: epochs without improvement before it stops; None: these don't end it.
        max_epochs: most epochs.
        eval_interval: epochs between two validations.
        swa: whether it ends with stochastic weight averaging (MACE's stage two).
        on: train on the `union` of all labels, or on each member's `own`.
    """

    patience: int | None
    max_epochs: int
    eval_interval: int
    swa: bool
    on: Literal["union", "own"]


@dataclass(frozen=True)
class Inputs:
    """Everything that the user's input files say, settled and checked.

    Attributes:
        directory: of the run, absolute.
        mace: mace_settings.yaml.
        al: active_learning_settings.yaml.
        control: control.in, or None where there is none.
        geometries: the structures that trajectories start from.
        trajectories: where each starts, and how it moves; those of active learning, and more
            where there are more geometries: the initial dataset is sampled from each.
        warnings: to be logged once.
        convergence: rules of the convergence stage.
    """

    directory: Path
    mace: MaceSettings
    al: ActiveLearningFile
    control: ControlIn | None
    geometries: tuple[Geometry, ...]
    trajectories: tuple[Trajectory, ...]
    warnings: tuple[str, ...]
    convergence: ConvergenceSettings

    @property
    def reference(self) -> ReferenceSettings:
        """The settings of the reference engine; only after `load_inputs(need_reference=True)`."""
        assert self.al.reference is not None
        return self.al.reference

    @property
    def valid_ratio(self) -> float:
        """Share of the labels that is set aside for validation."""
        return self.al.active_learning.valid_ratio

    @property
    def deterministic(self) -> bool:
        """Whether two runs must give the same labels."""
        return self.al.misc.deterministic

    @property
    def eager(self) -> bool:
        """Whether MACE itself evaluates the models, and never faster code (which rounds freely)."""
        return self.deterministic or self.mace.misc.evaluation == "eager"

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in all geometries, by atomic number."""
        return elements_of(self.structures)

    @property
    def structure(self) -> Structure:
        """The first geometry."""
        return self.geometries[0].structure

    @property
    def structures(self) -> tuple[Structure, ...]:
        """Of the geometries."""
        return tuple(geometry.structure for geometry in self.geometries)

    @property
    def with_stress(self) -> bool:
        """Whether labels and models have a stress."""
        periodic = any(structure.periodic for structure in self.structures)
        return periodic and self.mace.general.compute_stress


def elements_of(structures: Iterable[Structure]) -> tuple[str, ...]:
    """List the chemical symbols in structures, by atomic number."""
    from ase.data import chemical_symbols

    numbers = {number for structure in structures for number in structure.numbers.tolist()}
    return tuple(chemical_symbols[number] for number in sorted(numbers))


def resolved_yaml(inputs: Inputs) -> dict[str, str]:
    """Write out all settings in force, defaults included.

    Returns:
        File name -> YAML text, which read in again gives the same settings.
    """
    mace = {
        section.name.upper(): _dump(getattr(inputs.mace, section.name))
        for section in fields(inputs.mace)
    }
    al = {
        section.name.upper(): _dump(getattr(inputs.al, section.name))
        for section in fields(inputs.al)
        if getattr(inputs.al, section.name) is not None
    }
    # valid_skip also rules the stages before; said explicitly it would win over eval_interval.
    if inputs.convergence.eval_interval != inputs.al.active_learning.valid_skip:
        del al["ACTIVE_LEARNING"]["valid_skip"]
    return {
        name: yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        for name, data in ((MACE_FILE, mace), (AL_FILE, al))
    }


def flat_settings(inputs: Inputs) -> dict[str, Any]:
    """All settings in force as plain data, `SECTION.name` -> value.

    Paths below the run's directory are relative to it, so that a folder can be moved.
    """
    flat: dict[str, Any] = {}
    for file in (inputs.mace, inputs.al):
        for section in fields(file):
            settings = getattr(file, section.name)
            several = settings if isinstance(settings, tuple) else (settings,)
            for i, one in enumerate(several):
                title = section.name.upper() + (f"[{i}]" if len(several) > 1 else "")
                for name, value in (_dump(one) if one is not None else {}).items():
                    flat[f"{title}.{name}"] = _relative(value, inputs.directory)
    return flat


def _relative(value: Any, directory: Path) -> Any:
    if isinstance(value, list):
        return [_relative(item, directory) for item in value]
    if isinstance(value, str) and Path(value).is_relative_to(directory):
        return str(Path(value).relative_to(directory))
    return value


def _dump(section: Section | tuple[Section, ...]) -> Any:
    if isinstance(section, tuple):
        # One section is written as most users do, several as a list.
        return [_dump(one) for one in section] if len(section) > 1 else _dump(section[0])
    return section.model_dump(mode="json")
