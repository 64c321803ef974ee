"""MACE's symmetric contraction, summed over the products of features that count.

MACE multiplies features A_i of an atom with coupling coefficients U_ijl that are stored densely,
16^3 of them where the spherical harmonics go to l=3. Few are not zero, and products that differ
only in the order of their factors are the same: 77 are left for an invariant message. Summed over
those, the result is equal to rounding, and takes a fifth of the time.

Source: Batatia et al., NeurIPS 35, 11423 (2022), eqs. 10 and 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import mul
from types import MethodType
from typing import Any

import torch


@contextmanager
def sparse_contractions(model: torch.nn.Module, kind: type) -> Iterator[None]:
    """Let a model compute the same with fewer operations for a while.

    Args:
        model: of MACE.
        kind: MACE's class of contractions; modules of any other stay as they are.
    """
    contractions = _contractions(model, kind)
    for module in contractions:
        terms = [_Products(module.U_tensors(order), order) for order in _orders(module)]
        module.forward = MethodType(_forward(terms), module)
    try:
        yield
    finally:
        for module in contractions:
            del module.forward


def constants_of(model: Any, kind: type) -> list[torch.Tensor]:
    """The coupling coefficients, which become part of what is traced meanwhile.

    Args:
        model: of MACE.
        kind: MACE's class of contractions.
    """
    return [
        contraction.U_tensors(order)
        for contraction in _contractions(model, kind)
        for order in _orders(contraction)
    ]


def _contractions(model: torch.nn.Module, kind: type) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


def _orders(contraction: Any) -> range:
    return range(1, contraction.correlation + 1)


def _weights(contraction: Any, order: int) -> torch.Tensor:
    """(elements, paths, channels) that MACE's paths of an order are multiplied with."""
    last = contraction.correlation
    weights: torch.Tensor = (
        contraction.weights_max if order == last else contraction.weights[last - 1 - order]
    )
    return weights


class _Products:
    """The products of some features that an order of the contraction needs.

    Args:
        coupling: MACE's U, ([components of the message], features, ..., features, paths).
        order: number of factors.

    Attributes:
        order: number of factors.
        factors: (order, products, features) ones where a feature is the factor, else zeros.
        coefficients: (products, components, paths).
    """

    def __init__(self, coupling: torch.Tensor, order: int) -> None:
        if coupling.dim() == order + 1:
            coupling = coupling[None]
        tuples = coupling.abs().sum(dim=(0, -1)).nonzero()
        values = coupling[(slice(None), *tuples.T)].transpose(0, 1)
        products, which = torch.unique(tuples.sort(dim=1).values, dim=0, return_inverse=True)
        self.order = order
        self.coefficients = values.new_zeros((len(products), *values.shape[1:]))
        self.coefficients.index_add_(0, which, values)
        one_hot = torch.nn.functional.one_hot(products.T, coupling.shape[1])
        self.factors = one_hot.to(coupling.dtype)


class _Pick(torch.autograd.Function):
    """Picks features by their number, quickly both ways: a multiplication sums the gradients."""

    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, which: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        """Pick from (atoms, features, channels)."""
        ctx.save_for_backward(which, one_hot)
        return features[:, which]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return _put_back(gradient, *ctx.saved_tensors), None, None


class _PutBack(torch.autograd.Function):
    """Sums what belongs to the same feature: the adjoint of `_Pick`."""

    @staticmethod
    def forward(
        ctx: Any, picked: torch.Tensor, which: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        """Put (atoms, picked features, channels) back."""
        ctx.save_for_backward(which, one_hot)
        return one_hot.T @ picked

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return _pick(gradient, *ctx.saved_tensors), None, None


_pick: Any = _Pick.apply
_put_back: Any = _PutBack.apply


def _forward(terms: list[_Products]) -> Any:
    """The method that takes the place of the `forward` of MACE's contraction."""
    terms = [term for term in terms if len(term.coefficients)]
    one_hot = torch.cat([term.factors.flatten(0, 1) for term in terms])
    which = one_hot.argmax(dim=1)

    def forward(self: Any, features: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Contract (atoms, channels, features) with one-hot (atoms, elements)."""
        n_atoms, n_channels, _ = features.shape
        # (atoms, all factors, channels)
        picked = _pick(features.transpose(1, 2), which, one_hot)
        messages = []
        sizes = [term.order * len(term.coefficients) for term in terms]
        for term, part in zip(terms, torch.split(picked, sizes, dim=1), strict=True):
            # Not prod(): its second derivative is slow.
            first, *others = torch.chunk(part, term.order, dim=1)
            products = reduce(mul, others, first)
            weights = torch.einsum(
                "nqk,ekc->enqc", term.coefficients, _weights(self, term.order)
            ).flatten(1)
            own = (species @ weights).reshape(n_atoms, len(term.coefficients), -1, n_channels)
            messages.append((products[:, :, None] * own).sum(dim=1))
        total = torch.stack(messages).sum(dim=0)  # (atoms, components, channels)
        return total.transpose(1, 2).reshape(n_atoms, -1)

    return forward
