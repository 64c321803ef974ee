"""Where the structures of the initial dataset come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fhi_al.record.papers import KABYLDA_2025
from fhi_al.record.registry import Choice, Citation, Registry


@dataclass(frozen=True, kw_only=True)
class SamplingChoice(Choice[Callable[..., Any]]):
    """An entry of `SAMPLINGS`.

    Attributes:
        method: what its function is. `foundation`: of the inputs and a device, makes the driver
            that moves structures. `perturb`: of a structure, a seed and a number, makes the copy of
            that number; `settings` are its keyword arguments. `aimd`: carries out a
            `ReferenceStep`.
        licence: of the pretrained model behind it, in words.
    """

    method: Literal["aimd", "foundation", "perturb"]
    licence: str = ""


BATATIA_2024 = Citation(
    "Batatia2024",
    r"""@misc{Batatia2024,
  author = {Batatia, Ilyes and others},
  title = {A foundation model for atomistic materials chemistry},
  year = {2024},
  eprint = {2401.00096},
  archivePrefix = {arXiv}
}""",
)

SAMPLINGS = Registry[SamplingChoice](
    "a way to sample initial structures",
    {
        "mace-mp0": SamplingChoice(
            "fhi_al.ensemble.foundation:mace_mp0_driver",
            "molecular dynamics with MACE-MP-0",
            citations=(BATATIA_2024,),
            settings=("initial_foundational_size",),
            method="foundation",
            licence="MACE-MP-0, MIT licence",
        ),
        "so3lr": SamplingChoice(
            "fhi_al.handlers.foundation:so3lr_driver",
            "molecular dynamics with SO3LR",
            citations=(KABYLDA_2025,),
            method="foundation",
            licence="SO3LR, MIT licence",
        ),
        "aimd": SamplingChoice(
            "fhi_al.handlers.dynamics:reference_step",
            "molecular dynamics with the reference method",
            method="aimd",
        ),
        "perturb": SamplingChoice(
            "fhi_al.md.perturb:perturbed",
            "random displacements of the atoms",
            settings=("perturb_displacement_A", "perturb_strain"),
            details="(standard deviation {perturb_displacement_A:g} Å)",
            method="perturb",
        ),
    },
)
"""Samplings by name; `ACTIVE_LEARNING.initial_sampling` chooses one, or names a model file."""

MODEL_FILE = SamplingChoice(
    "fhi_al.ensemble.foundation:model_file_driver",
    "molecular dynamics with a pretrained MACE model",
    method="foundation",
)
"""The sampling with a MACE model that the user names by its path."""


def sampling(named: str) -> SamplingChoice:
    """What `ACTIVE_LEARNING.initial_sampling` names."""
    return SAMPLINGS.get(named, MODEL_FILE)
