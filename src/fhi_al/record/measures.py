"""What makes two structures alike: the choices there are for a pool of candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fhi_al.atoms.diversity import Distances, decorrelation, euclidean
from fhi_al.record.registry import Choice, Registry

if TYPE_CHECKING:
    import torch

Describe: TypeAlias = "Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]"
"""Asked with models and their inputs, gives (structures, numbers) that structures are compared by.

What it says of a structure doesn't depend on the others in the batch.
"""


@dataclass(frozen=True, kw_only=True)
class Measure(Choice[Describe]):
    """A way to tell how alike two structures are.

    Attributes:
        distances: between structures, from what `function` says of them; the larger, the less
            alike.
    """

    distances: Distances


MEASURES = Registry[Measure](
    "a measure of how alike structures are",
    {
        "descriptors": Measure(
            function="fhi_al.ensemble.descriptors:descriptors",
            words="the distance between the models' descriptors of two structures",
            distances=euclidean,
        ),
        "correlation": Measure(
            function="fhi_al.ensemble.descriptors:member_energies",
            words="how strongly the members' energies of two structures correlate",
            needs=frozenset({"energies", "members"}),
            distances=decorrelation,
        ),
    },
)
"""Measures; `Select.by` names one."""
