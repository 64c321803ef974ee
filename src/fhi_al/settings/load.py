"""Read all input files of a run, and gather every problem in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from fhi_al.errors import InputError
from fhi_al.settings import control_in, geometry_in, settle
from fhi_al.settings.active_learning import ActiveLearning, Misc, Parallel
from fhi_al.settings.base import AL_FILE, MACE_FILE, Section, parse_section, shown, unknown
from fhi_al.settings.control_in import ControlIn, parse_control
from fhi_al.settings.engine import ReferenceSettings
from fhi_al.settings.geometries import read_geometries
from fhi_al.settings.inputs import ActiveLearningFile, Inputs
from fhi_al.settings.mace import Architecture, General, MaceMisc, MaceSettings, Training
from fhi_al.settings.md import MdSettings
from fhi_al.settings.reference import ENGINES
from fhi_al.settings.trajectories import Trajectory, deal_trajectories
from fhi_al.settings.yaml_in import read_text, read_yaml

S = TypeVar("S", bound=Section)


def load_inputs(directory: Path, *, need_reference: bool = True) -> Inputs:
    """Read and check all input files of a run. Writes nothing.

    Args:
        directory: with the input files.
        need_reference: whether the command labels structures, and so needs an engine.

    Raises:
        InputError: with every problem of every file.
    """
    directory = Path(directory).absolute()
    if not any((directory / name).exists() for name in (MACE_FILE, AL_FILE, "geometry.in")):
        raise InputError(
            f"there are no input files ({MACE_FILE}, {AL_FILE}, geometry.in) in {directory}: go to "
            "the folder that has them, or give it by --directory; `FHI_AL-init molecule` writes "
            "a set to begin with, and `FHI_AL-init --help` names others"
        )
    problems: list[str] = []
    warnings: list[str] = []
    mace = _read_mace(directory, problems)
    al, reference, paths = _read_active_learning(directory, problems, warnings, need_reference)
    geometries = read_geometries(paths, problems) if paths else None
    control = _read_control(directory, problems, reference)
    trajectories: tuple[Trajectory, ...] = ()
    if geometries is not None:
        problems += settle.engine_problems(reference, control, geometries)
        warnings += settle.engine_warnings(reference, geometries)
        if al is not None:
            count = al.active_learning.num_trajectories
            if count < len(geometries):
                warnings.append(
                    f"{AL_FILE}: ACTIVE_LEARNING.num_trajectories ({count}) is smaller than the "
                    f"number of geometries ({len(geometries)}): the last ones are used for the "
                    "initial dataset only."
                )
            trajectories = deal_trajectories(
                max(count, len(geometries)), geometries, al.md, problems
            )
            problems += settle.geometry_problems(al.md, geometries, trajectories)
    if mace is not None and geometries is not None:
        problems += settle.energy_problems(mace, geometries)
        problems += settle.stress_problems(mace, reference, geometries)
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    assert mace is not None
    assert al is not None
    assert geometries is not None

    warnings += settle.no_effect(mace, al, control)
    mace, al, convergence = settle.settle(mace, al, warnings)
    return Inputs(
        directory, mace, al, control, geometries, trajectories, tuple(warnings), convergence
    )


class _File:
    """The sections of one YAML file, handed out by name."""

    def __init__(self, path: Path, sections: dict[str, str], problems: list[str]) -> None:
        """Read the file; `sections` maps each name that a section may have to its proper name."""
        self.path, self.problems = path, problems
        read = read_yaml(path, problems)
        self.readable = read is not None
        self.data: dict[str, Any] = {}
        for name, content in (read or {}).items():
            if name not in sections:
                known = dict.fromkeys(sections.values())
                problems.append(unknown(f"{path.name}: ", name, known, "a section"))
            elif sections[name] in self.data:
                problems.append(f"{path.name}: the section {sections[name]} is given twice.")
            else:
                self.data[sections[name]] = content

    def section(self, kind: type[S], name: str) -> S | None:
        return self._parse(kind, self.data.get(name), name)

    def sections(self, kind: type[S], name: str) -> tuple[S, ...] | None:
        """One section, or a list of them; None where any has problems."""
        data = self.data.get(name)
        if not isinstance(data, list):
            section = self._parse(kind, data, name)
            return None if section is None else (section,)
        found = [self._parse(kind, one, f"{name}[{i}]") for i, one in enumerate(data)]
        if not data:
            self.problems.append(f"{self.path.name}: {name}: got an empty list.")
        complete = tuple(section for section in found if section is not None)
        return complete if data and len(complete) == len(data) else None

    def _parse(self, kind: type[S], data: Any, name: str) -> S | None:
        return parse_section(
            kind,
            data,
            file=self.path.name,
            name=name,
            directory=self.path.parent,
            problems=self.problems,
        )


def _read_mace(directory: Path, problems: list[str]) -> MaceSettings | None:
    names = ("GENERAL", "ARCHITECTURE", "TRAINING", "MISC")
    file = _File(directory / MACE_FILE, {name: name for name in names}, problems)
    general = file.section(General, "GENERAL")
    architecture = file.section(Architecture, "ARCHITECTURE")
    training = file.section(Training, "TRAINING")
    misc = file.section(MaceMisc, "MISC")
    if not (file.readable and general and architecture and training and misc):
        return None
    return MaceSettings(general, architecture, training, misc)


def _read_active_learning(
    directory: Path, problems: list[str], warnings: list[str], need_reference: bool
) -> tuple[ActiveLearningFile | None, ReferenceSettings | None, tuple[Path, ...]]:
    """Read the file; the reference also where other sections have problems, for later checks.

    The paths of the geometries are empty where the file doesn't say them in a way that counts.
    """
    names = ("ACTIVE_LEARNING", "MD", "REFERENCE", "PARALLEL", "MISC")
    sections = {name: name for name in names} | {"ACTIVE LEARNING": "ACTIVE_LEARNING"}
    file = _File(directory / AL_FILE, sections, problems)
    active_learning = file.section(ActiveLearning, "ACTIVE_LEARNING")
    md = file.sections(MdSettings, "MD")
    parallel = file.section(Parallel, "PARALLEL")
    misc = file.section(Misc, "MISC")
    reference = _read_reference(file, need_reference) if file.readable else None
    paths: tuple[Path, ...] = ()
    given = file.data.get("ACTIVE_LEARNING")
    if active_learning is not None:
        paths = active_learning.geometry
    elif not (isinstance(given, Mapping) and "geometry" in given):
        paths = (directory / geometry_in.FILE,)
    if not (file.readable and active_learning and md and parallel and misc):
        return None, reference, paths
    if "c_x" in (file.data.get("ACTIVE_LEARNING") or {}):
        warnings.append(
            f"{AL_FILE}: ACTIVE_LEARNING.c_x is read by the manual's formula, threshold = moving "
            f"average * (1 - c_x), so threshold_factor = {active_learning.threshold_factor:g}. The "
            "original program, aims-PAX and VASP (ML_CX) compute 1 + c_x instead: if you mean "
            "that, give threshold_factor."
        )
    al = ActiveLearningFile(active_learning, md, reference, parallel, misc)
    return al, reference, paths


def _read_reference(file: _File, need_reference: bool) -> ReferenceSettings | None:
    al = file.data.get("ACTIVE_LEARNING")
    al = al if isinstance(al, Mapping) else {}
    given = {name: _by_manual_keys(choice.section, al) for name, choice in ENGINES.items()}
    data = file.data.get("REFERENCE")
    engines = ", ".join(ENGINES)
    if data is None:
        chosen = [n for n, found in given.items() if found and None not in found.values()]
        if chosen:
            data = {"engine": chosen[0]}
        elif need_reference:
            file.problems.append(
                f"{AL_FILE}: REFERENCE.engine is missing: the reference method must be chosen; "
                f"expected one of {engines} (or, for FHI-aims, ACTIVE_LEARNING.aims_lib_path and "
                "ACTIVE_LEARNING.species_dir)."
            )
            return None
        else:
            return None
    if not isinstance(data, Mapping):
        file.problems.append(
            f"{AL_FILE}: REFERENCE: got {shown(data)}, expected settings such as `engine: xtb`."
        )
        return None
    engine = data.get("engine")
    if not isinstance(engine, str) or engine not in ENGINES:
        got = f"got {shown(engine)}" if "engine" in data else "it is missing"
        file.problems.append(f"{AL_FILE}: REFERENCE.engine: {got}, expected one of {engines}.")
        return None
    elsewhere = {name: value for name, value in given[engine].items() if value is not None}
    file.data["REFERENCE"] = {**elsewhere, **data}
    return file.section(ENGINES[engine].section, "REFERENCE")


def _by_manual_keys(section: type[ReferenceSettings], al: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an engine that ACTIVE_LEARNING can give; None where it does not."""
    return {name: al.get(key) for key, name in section.manual_keys.items()}


def _read_control(
    directory: Path, problems: list[str], reference: ReferenceSettings | None
) -> ControlIn | None:
    path = directory / control_in.FILE
    if not (reference is not None and reference.reads_control) and not path.exists():
        return None
    text = read_text(path, problems)
    if text is None:
        return None
    try:
        return parse_control(text)
    except InputError as error:
        problems += error.problems
        return None
