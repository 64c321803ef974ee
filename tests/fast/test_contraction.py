"""The contraction with fewer operations: equal to MACE's."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from mace.modules.symmetric_contraction import Contraction

from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import Structure
from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.fast.contraction import _Products, sparse_contractions


@pytest.mark.parametrize(
    ("irreps", "message", "correlation", "products"),
    [
        ("2x0e+2x1o+2x2e+2x3o", "0e", 3, 1 + 16 + 77),
        ("2x0e+2x1o+2x2e", "1o", 2, None),
        ("2x0e+2x1o", "2e", 3, None),
        ("2x0e+2x1o", "0e", 1, 1),
    ],
)
def test_a_contraction_with_its_first_and_second_derivatives(
    irreps, message, correlation, products
):
    """Messages of all kinds, in the shapes that MACE makes for them."""
    import mace  # noqa: F401  # lets e3nn load its constants; before e3nn
    from e3nn import o3

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        theirs = Contraction(o3.Irreps(irreps), o3.Irreps(message), correlation, num_elements=3)
    finally:
        torch.set_default_dtype(torch.float32)
    if products is not None:
        terms = [_Products(theirs.U_tensors(n), n) for n in range(1, correlation + 1)]
        assert sum(len(term.coefficients) for term in terms) == products
    n_features = theirs.U_tensors(1).shape[-2]
    features = torch.randn(5, 2, n_features, dtype=torch.float64, requires_grad=True)
    species = torch.nn.functional.one_hot(torch.tensor([0, 2, 1, 1, 0]), 3).double()
    results = []
    for way in (nullcontext(), sparse_contractions(theirs, Contraction)):
        with way:
            out = theirs(features, species)
        (slope,) = torch.autograd.grad(out.square().sum(), features, create_graph=True)
        weights = [w for w in theirs.parameters() if w.requires_grad]
        # Weights of couplings that are all zero aren't even used.
        second = torch.autograd.grad(
            slope.square().sum(), [features, *weights], allow_unused=True, materialize_grads=True
        )
        results.append([out.detach(), slope.detach(), *second])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * expected.abs().max())


def test_a_whole_model_and_only_for_a_while(tiny_models, ethanol):
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    batch = Batch.from_structures([Structure.from_atoms(ethanol)])
    expected = predictor.predict(batch)
    with sparse_contractions(tiny_models[1], Contraction):
        found = predictor.predict(batch)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-11)
    assert not np.array_equal(found.forces[1], expected.forces[1])
    np.testing.assert_array_equal(found.forces[0], expected.forces[0])
    np.testing.assert_array_equal(predictor.predict(batch).forces, expected.forces)
