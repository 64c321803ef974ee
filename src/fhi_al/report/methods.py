"""Text for the methods section of a paper, and the versions that it rests on."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhi_al.procedures.run import begun
from fhi_al.report.citations import SAMPLINGS, THERMOSTATS, reference_keys
from fhi_al.report.story import Story

_PACKAGES = ("mace-torch", "torch", "ase", "numpy", "tblite", "pyscf", "asi4py", "mpi4py")
_ENSEMBLES = {
    "nve": "constant energy",
    "nvt": "constant volume and temperature",
    "npt": "constant pressure and temperature",
}
_THERMOSTAT_NAMES = {
    "langevin": "Langevin dynamics",
    "bussi": "stochastic velocity rescaling",
    "nhc": "a Nosé-Hoover chain",
}
_UNCERTAINTIES = {
    "max_atomic_sd": "the largest standard deviation, over the members, of the force on an atom",
    "mean_atomic_sd": "the mean over atoms of the standard deviation, over the members, of the "
    "force on an atom",
    "max_atomic_sd_stress": "the largest standard deviation, over the members, of the force on an "
    "atom or, if larger, of the stress in units of a force",
}


def methods(story: Story) -> str:
    """A paragraph on how the models were made; citations by their keys, in brackets."""
    inputs = story.last.inputs
    if not inputs:
        return (
            "The journal is of an early version of the program, which did not keep the settings; "
            "see results/settings."
        )
    return " ".join([*_models(story), *_reference(inputs), *_initial(story), *_learning(story)])


def _models(story: Story) -> Iterator[str]:
    inputs = story.last.inputs
    get = inputs.get
    size = story.state.rules.ensemble_size
    yield (
        f"A committee of {size} MACE models [Batatia2022] (cutoff "
        f"{get('ARCHITECTURE.r_max'):g} Å, {get('ARCHITECTURE.num_interactions')} interaction "
        f"layers, {get('ARCHITECTURE.num_channels')} channels, messages up to L = "
        f"{get('ARCHITECTURE.max_L')}, correlation order {get('ARCHITECTURE.correlation')}) was "
        f"trained by active learning with FHI_AL {story.last.version}, by the scheme of "
        "[Henkes2026]."
    )


def _reference(inputs: Mapping[str, Any]) -> Iterator[str]:
    keys = reference_keys(inputs)
    cite = f" [{', '.join(keys)}]" if keys else ""
    yield f"The reference energies and forces are those of {reference_name(inputs)}{cite}."


def reference_name(inputs: Mapping[str, Any]) -> str:
    """The reference method in words."""
    engine = inputs.get("REFERENCE.engine")
    if engine == "xtb":
        return f"{inputs['REFERENCE.method']}{_version('tblite', ' (tblite ', ')')}"
    if engine == "asi":
        return "FHI-aims through ASI, with the settings of control.in"
    if engine == "mlff":
        model = inputs.get("REFERENCE.model")
        return "SO3LR" if model == "so3lr" else f"the pretrained model {model}"
    if engine == "ase":
        calculator = str(inputs.get("REFERENCE.calculator"))
        arguments = inputs.get("REFERENCE.arguments") or {}
        given = ", ".join(f"{name} = {value}" for name, value in arguments.items())
        return calculator.rpartition(".")[2] + (f" ({given})" if given else "")
    return "the reference method"


def _initial(story: Story) -> Iterator[str]:
    inputs = story.last.inputs
    n_initial = sum(answer.candidate is None for answer in story.answers)
    if not n_initial:
        if story.state.books.imported:
            n_given = len({entry.key for entry in story.state.books.entries}) - len(story.answers)
            yield f"The run began with {max(n_given, 0)} structures of an earlier dataset."
        return
    sampling = str(inputs.get("ACTIVE_LEARNING.initial_sampling"))
    how = {
        "aimd": "molecular dynamics with the reference method",
        "perturb": "random displacements of the atoms (standard deviation "
        f"{inputs.get('ACTIVE_LEARNING.perturb_displacement_A'):g} Å)",
        "so3lr": f"molecular dynamics with SO3LR [{SAMPLINGS['so3lr']}]",
        "mace-mp0": f"molecular dynamics with MACE-MP-0 [{SAMPLINGS['mace-mp0']}]",
    }.get(sampling, "molecular dynamics with a pretrained MACE model")
    yield f"The first {n_initial} structures came from {how}."


def _learning(story: Story) -> Iterator[str]:
    rules, inputs = story.state.rules, story.last.inputs
    if not story.walks:
        return
    driver = inputs.get("ACTIVE_LEARNING.driver")
    mover = "the first member" if driver == "member" else "the mean of the members"
    yield (
        f"{len(story.walks)} trajectories were then moved by the forces of {mover} "
        f"({'; '.join(_dynamics(inputs))})."
    )
    yield (
        f"Every {rules.skip_step_mlff} steps, the uncertainty, "
        f"{_UNCERTAINTIES[inputs['ACTIVE_LEARNING.uncertainty']]}, was compared with "
        f"{rules.threshold_factor:g} times the mean of its latest {rules.uncertainty_window} "
        "values; structures above were computed with the reference, and the models trained on."
    )
    state = story.state
    n_train = len({e.key for e in state.books.entries if e.split == "train"})
    yield (
        f"The dataset has {n_train} structures for training and {state.books.n_valid} for "
        "validation."
    )
    for stage in begun(state):
        if sentence := stage.in_methods(state):
            yield sentence


def _dynamics(inputs: Mapping[str, Any]) -> Iterable[str]:
    sections = [n.removesuffix(".stat_ensemble") for n in inputs if n.endswith(".stat_ensemble")]
    return dict.fromkeys(", ".join(_section(inputs, section)) for section in sections)


def _section(inputs: Mapping[str, Any], section: str) -> Iterator[str]:
    def get(name: str) -> Any:
        return inputs.get(f"{section}.{name}")

    ensemble, thermostat = get("stat_ensemble"), get("thermostat")
    yield _ENSEMBLES[ensemble]
    if ensemble != "nve":
        name = f"{_THERMOSTAT_NAMES[thermostat]} [{THERMOSTATS[thermostat]}]"
        strength = (
            f"a friction of {get('friction_per_fs'):g}/fs"
            if thermostat == "langevin"
            else f"a relaxation time of {get('thermostat_time_fs'):g} fs"
        )
        yield f"{name} with {strength}"
        until = f" to {get('temperature_end_K'):g}" if get("temperature_end_K") else ""
        yield f"{' and '.join(f'{t:g}' for t in get('temperature_K'))}{until} K"
    if ensemble == "npt":
        yield (
            f"stochastic cell rescaling [Bernetti2020] at "
            f"{' and '.join(f'{p:g}' for p in get('pressure_GPa'))} GPa"
        )
    if get("bias_strength"):
        yield f"biased towards uncertain structures [vanderOord2023] by {get('bias_strength'):g}"
    yield f"a time step of {get('timestep_fs'):g} fs"


def versions(story: Story) -> dict[str, str]:
    """Versions of this program, as it ran, and of what is installed where this is written."""
    found = {"FHI_AL": story.last.version, "Python": platform.python_version()}
    for package in _PACKAGES:
        if version := _version(package):
            found[package] = version
    return found


def _version(package: str, before: str = "", after: str = "") -> str:
    try:
        return f"{before}{importlib.metadata.version(package)}{after}"
    except importlib.metadata.PackageNotFoundError:
        return ""
