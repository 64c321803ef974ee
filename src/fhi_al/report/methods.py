"""Text for the methods section of a paper, and the versions that it rests on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhi_al.md.barostats import BAROSTATS
from fhi_al.md.thermostats import THERMOSTATS
from fhi_al.md.uncertainty import UNCERTAINTIES
from fhi_al.procedures.run import begun
from fhi_al.procedures.samplings import sampling
from fhi_al.report.citations import reference
from fhi_al.report.story import Story
from fhi_al.settings.reference import ENGINE_PACKAGES

_PACKAGES = ("mace-torch", "torch", "ase", "numpy", *ENGINE_PACKAGES, "mpi4py")
_ENSEMBLES = {
    "nve": "constant energy",
    "nvt": "constant volume and temperature",
    "npt": "constant pressure and temperature",
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
    method = reference(inputs)
    keys = [citation.key for citation in method.citations] if method else []
    cite = f" [{', '.join(keys)}]" if keys else ""
    yield f"The reference energies and forces are those of {reference_name(inputs)}{cite}."


def reference_name(inputs: Mapping[str, Any]) -> str:
    """The reference method in words."""
    method = reference(inputs)
    return method.words if method else "the reference method"


def _initial(story: Story) -> Iterator[str]:
    inputs = story.last.inputs
    n_initial = sum(answer.candidate is None for answer in story.answers)
    if not n_initial:
        if story.state.books.imported:
            n_given = len({entry.key for entry in story.state.books.entries}) - len(story.answers)
            yield f"The run began with {max(n_given, 0)} structures of an earlier dataset."
        return
    active = _section(inputs, "ACTIVE_LEARNING")
    how = sampling(str(active.get("initial_sampling"))).told(active)
    yield f"The first {n_initial} structures came from {how}."


def _learning(story: Story) -> Iterator[str]:
    rules, inputs = story.state.rules, story.last.inputs
    if not story.walks:
        return
    active = _section(inputs, "ACTIVE_LEARNING")
    mover = "the first member" if active.get("driver") == "member" else "the mean of the members"
    yield (
        f"{len(story.walks)} trajectories were then moved by the forces of {mover} "
        f"({'; '.join(_dynamics(inputs))})."
    )
    yield (
        f"Every {rules.skip_step_mlff} steps, the uncertainty, "
        f"{UNCERTAINTIES[active['uncertainty']].told(active)}, was compared with "
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


def _section(inputs: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings of one section, by their names within."""
    start = f"{name}."
    return {key.removeprefix(start): v for key, v in inputs.items() if key.startswith(start)}


def _dynamics(inputs: Mapping[str, Any]) -> Iterable[str]:
    names = [n.removesuffix(".stat_ensemble") for n in inputs if n.endswith(".stat_ensemble")]
    return dict.fromkeys(", ".join(_moves(_section(inputs, name))) for name in names)


def _moves(md: Mapping[str, Any]) -> Iterator[str]:
    """How trajectories move by one MD section."""
    ensemble = md["stat_ensemble"]
    yield _ENSEMBLES[ensemble]
    if ensemble != "nve":
        yield THERMOSTATS[md["thermostat"]].told(md)
        until = f" to {md['temperature_end_K']:g}" if md.get("temperature_end_K") else ""
        yield f"{' and '.join(f'{t:g}' for t in md['temperature_K'])}{until} K"
    if ensemble == "npt":
        yield (
            f"{BAROSTATS[md['barostat']].told(md)} at "
            f"{' and '.join(f'{p:g}' for p in md['pressure_GPa'])} GPa"
        )
    if md.get("bias_strength"):
        yield f"biased towards uncertain structures [vanderOord2023] by {md['bias_strength']:g}"
    yield f"a time step of {md['timestep_fs']:g} fs"


def versions(story: Story) -> dict[str, str]:
    """Versions of this program, as it ran, and of what is installed where this is written."""
    found = {"FHI_AL": story.last.version, "Python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
