"""What models know of a structure besides energy and forces: numbers to compare structures by."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch

from fhi_al.fast.padding import Tensors

_FEWEST_MEMBERS = 3
_IRREP = re.compile(r"(\d+)x(\d+)([eo])")
"""Such as `16x1o`: 16 times a vector."""


def descriptors(models: Sequence[Any], inputs: Tensors) -> torch.Tensor:
    """Describe structures by how the models see the atoms in them.

    A structure's descriptor by one model is the mean, over its atoms of each element, of the
    invariant features of all layers, for all elements, divided by its norm. Those of the models
    stand side by side, divided by the square root of their number. So it depends neither on
    where and how the structure lies, on the order of its atoms or on the size of a supercell, nor
    on the units of the features: two descriptors are 2 apart at most.

    Args:
        models: of MACE.
        inputs: of a model.

    Returns:
        (structures, models x elements x features), float64.
    """
    of_atoms = torch.stack([_invariants(model, inputs) for model in models], dim=1)
    n_elements = inputs["node_attrs"].shape[1]
    # Where the atoms of an element of a structure are added up.
    place = inputs["batch"] * n_elements + inputs["node_attrs"].argmax(dim=1)
    size = len(inputs["head"]) * n_elements
    sums = of_atoms.new_zeros((size, *of_atoms.shape[1:])).index_add_(0, place, of_atoms)
    means = sums / place.bincount(minlength=size).clamp(min=1)[:, None, None]
    # (structures, models, elements x features)
    means = means.reshape(-1, n_elements, *means.shape[1:]).transpose(1, 2).flatten(2)
    norms = means.norm(dim=2, keepdim=True).clamp(min=torch.finfo(means.dtype).tiny)
    rows: torch.Tensor = (means / norms).flatten(1) / math.sqrt(len(models))
    return rows


def member_energies(models: Sequence[Any], inputs: Tensors) -> torch.Tensor:
    """Describe structures by the energies that each model gives them.

    Args:
        models: of MACE.
        inputs: of a model.

    Returns:
        (structures, models) in eV, float64, without those of the isolated atoms: all models have
        the same.

    Raises:
        ValueError: there are so few models that any two structures would seem alike.
    """
    if len(models) < _FEWEST_MEMBERS:
        raise ValueError(
            f"the energies of {len(models)} members tell nothing of how alike structures are; "
            f"there must be at least {_FEWEST_MEMBERS}"
        )
    return torch.stack([_look(model, inputs)["interaction_energy"] for model in models], 1).double()


def _look(model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
    # The model marks and replaces entries of what it is given.
    own = {**inputs, "positions": inputs["positions"].clone()}
    output: dict[str, torch.Tensor] = model(own, compute_force=False)
    return output


def _invariants(model: Any, inputs: Tensors) -> torch.Tensor:
    """(atoms, features) of all layers, float64."""
    features = _look(model, inputs)["node_feats"]
    parts, first = [], 0
    for product in model.products:
        # Those of cuEquivariance, which converted models have, look the same as text.
        for count, degree, parity in _IRREP.findall(str(product.linear.irreps_out)):
            size = int(count) * (2 * int(degree) + 1)
            if degree + parity == "0e":
                parts.append(features[:, first : first + size])
            first += size
    return torch.cat(parts, dim=1).double()
