"""What the input files say, as one immutable value."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from fhi_al.settings.active_learning import ActiveLearning, Misc, Parallel
from fhi_al.settings.base import Section
from fhi_al.settings.control_in import ControlIn
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.md import MdSettings
from fhi_al.settings.reference import ReferenceSettings
from fhi_al.structure import FloatArray, Structure

MACE_FILE = "mace_settings.yaml"
AL_FILE = "active_learning_settings.yaml"


@dataclass(frozen=True)
class ActiveLearningFile:
    """All of `active_learning_settings.yaml`; `reference` is None only where none is needed."""

    active_learning: ActiveLearning = field(default_factory=ActiveLearning)
    md: MdSettings = field(default_factory=MdSettings)
    reference: ReferenceSettings | None = None
    parallel: Parallel = field(default_factory=Parallel)
    misc: Misc = field(default_factory=Misc)


@dataclass(frozen=True)
class ConvergenceSettings:
    """The rules of the convergence stage, settled between the two files that can give them.

    Attributes:
        patience: epochs without improvement before it stops.
        max_epochs: most epochs.
        eval_interval: epochs between two validations.
        swa: whether it ends with stochastic weight averaging (MACE's stage two).
        on: train on the `union` of all labels, or on each member's `own`.
    """

    patience: int
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
        structure: geometry.in.
        velocities: (atoms, 3) of geometry.in in Å/fs, or None.
        warnings: to be logged once.
        convergence: rules of the convergence stage.
    """

    directory: Path
    mace: MaceSettings
    al: ActiveLearningFile
    control: ControlIn | None
    structure: Structure
    velocities: FloatArray | None
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
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in geometry.in, by atomic number."""
        return elements_of(self.structure)

    @property
    def with_stress(self) -> bool:
        """Whether labels and models have a stress."""
        return self.structure.periodic and self.mace.general.compute_stress


def elements_of(structure: Structure) -> tuple[str, ...]:
    """List the chemical symbols in a structure, by atomic number."""
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[number] for number in sorted(set(structure.numbers.tolist())))


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
            if (settings := getattr(file, section.name)) is not None:
                for name, value in _dump(settings).items():
                    flat[f"{section.name.upper()}.{name}"] = _relative(value, inputs.directory)
    return flat


def _relative(value: Any, directory: Path) -> Any:
    if isinstance(value, list):
        return [_relative(item, directory) for item in value]
    if isinstance(value, str) and Path(value).is_relative_to(directory):
        return str(Path(value).relative_to(directory))
    return value


def _dump(section: Section) -> dict[str, Any]:
    return section.model_dump(mode="json")
