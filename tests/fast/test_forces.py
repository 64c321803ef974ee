"""Compiled forces: equal to the eager ones, or not taken."""

import time

import numpy as np
import pytest
import torch
from fast_inputs import batch_of, model_inputs
from mace.modules.symmetric_contraction import Contraction

from fhi_al.ensemble.predict import CommitteePredictor
from fhi_al.fast.compilation import Compilation
from fhi_al.fast.forces import EnergyAndForces, FastForces
from fhi_al.fast.padding import PaddedShape, pad
from fhi_al.fast.tracing import tensors_of, trace


def test_shapes_have_room():
    inputs = {
        "head": torch.zeros(2),
        "positions": torch.zeros(20, 3),
        "edge_index": torch.zeros((2, 300)),
    }
    shape = PaddedShape.with_room(inputs, expected=4)
    assert shape == PaddedShape(5, 42, 768)
    assert shape.holds(inputs)
    assert not PaddedShape(3, 21, 300).holds(inputs)
    # Every structure of the padding has an atom, the last one two.
    assert not PaddedShape(5, 23, 300).holds(inputs)
    assert PaddedShape(5, 24, 300).holds(inputs)
    assert not PaddedShape(2, 22, 300).holds(inputs)
    assert not PaddedShape(3, 22, 299).holds(inputs)
    assert PaddedShape(3, 22, 300).holds(inputs)
    assert PaddedShape.of_largest([3, 9, 4, 8], [20, 90, 30, 80], 2) == PaddedShape(3, 19, 192)
    assert PaddedShape.of_largest([3, 2], [20, 6], 4) == PaddedShape(5, 13, 80)
    assert PaddedShape(3, 50, 1).union(PaddedShape(9, 1, 7)) == PaddedShape(9, 50, 7)


@pytest.mark.parametrize(
    "block", ["RealAgnosticResidualInteractionBlock", "RealAgnosticAttResidualInteractionBlock"]
)
def test_padding_is_felt_by_no_one(block, tiny_mace, ethanol, silicon):
    """Also where an edge beyond the cutoff does contribute to the atoms that it joins."""
    from mace.modules import interaction_classes

    model = tiny_mace(0, interaction_cls=interaction_classes[block])
    predictor = CommitteePredictor([model], dtype=torch.float64)
    batch = batch_of(ethanol, silicon)
    exact = predictor.predict(batch)
    inputs = model_inputs(predictor, batch)
    padded = pad(inputs, PaddedShape(6, 30, 900), 3.5)
    assert padded["ptr"].tolist() == [0, 9, 11, 12, 13, 14, 30]
    assert torch.bincount(padded["batch"]).tolist() == padded["ptr"].diff().tolist()
    out = {name: value.detach() for name, value in model(padded).items() if value is not None}
    np.testing.assert_allclose(out["energy"][:2], exact.energies[0], atol=1e-12)
    np.testing.assert_allclose(out["forces"][:11], exact.forces[0], atol=1e-12)
    assert torch.isfinite(out["forces"]).all()


def test_the_traced_graph_takes_its_weights_from_outside(tiny_models, ethanol, silicon):
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    batch = batch_of(ethanol, silicon)
    exact = predictor.predict(batch)
    padded = pad(model_inputs(predictor, batch), PaddedShape(4, 20, 500), 3.5)
    graph, _ = trace(EnergyAndForces(3.5, Contraction), tiny_models[0], padded)
    for member, model in enumerate(tiny_models):
        energies, forces = graph(*tensors_of(model), *padded.values())
        np.testing.assert_allclose(energies[:2], exact.energies[member], atol=1e-11)
        np.testing.assert_allclose(forces[:11], exact.forces[member], atol=1e-11)


def test_what_edges_read_of_atoms_is_stored(tiny_models, ethanol):
    """Or compiled code computes it for each edge anew."""
    predictor = CommitteePredictor(tiny_models, dtype=torch.float64)
    padded = pad(model_inputs(predictor, batch_of(ethanol)), PaddedShape(2, 11, 100), 3.5)
    graph, _ = trace(EnergyAndForces(3.5, Contraction), tiny_models[0], padded)
    aten = torch.ops.aten
    gathers = [
        node
        for node in graph.graph.nodes
        if node.target in (aten.gather.default, aten.index.Tensor)
        and node.args[0].op == "call_function"
        and len(node.meta["tensor_meta"].shape) == 2
        and node.meta["tensor_meta"].shape[0] == 100
    ]
    assert len(gathers) >= 2 + 2 * len(tiny_models[0].interactions)
    assert all(node.args[0].target == aten.as_strided.default for node in gathers)


def test_code_is_of_use_for_other_data(tiny_mace, ethanol, silicon):
    """What comes from the data is an argument: a run with other labels finds the code again."""
    first = tiny_mace(0)
    other = tiny_mace(
        1,
        avg_num_neighbors=3.7,
        atomic_energies=np.array([-13.0, -1000.0, -2000.0, -7000.0]),
        atomic_inter_scale=0.7,
        atomic_inter_shift=-0.3,
    )
    predictor = CommitteePredictor([other], dtype=torch.float64)
    batch = batch_of(ethanol, silicon)
    exact = predictor.predict(batch)
    inputs = model_inputs(predictor, batch)
    shape = PaddedShape(4, 20, 500)
    graph, _ = trace(EnergyAndForces(3.5, Contraction), first, pad(inputs, shape, 3.5))
    assert first.interactions[0].avg_num_neighbors != 3.7
    energies, forces = graph(*tensors_of(other), *pad(inputs, shape, 3.5).values())
    np.testing.assert_allclose(energies[:2], exact.energies[0], atol=1e-11)
    np.testing.assert_allclose(forces[:11], exact.forces[0], atol=1e-11)

    def file(model):
        return Compilation(EnergyAndForces(3.5, Contraction), model, inputs, shape).file

    assert file(other) == file(first)
    assert file(tiny_mace(0, num_interactions=1)) != file(first)


def test_virials_are_those_of_the_model(tiny_models, ethanol, silicon):
    """Traced, with padding, in cells that are shorter than the cutoff."""
    predictor = CommitteePredictor(tiny_models[:1], dtype=torch.float64)
    batch = batch_of(ethanol, silicon)
    exact = predictor.predict(batch, stress=True)
    padded = pad(model_inputs(predictor, batch), PaddedShape(4, 20, 500), 3.5)
    graph, arguments = trace(
        EnergyAndForces(3.5, Contraction, virials=True), tiny_models[0], padded
    )
    energies, forces, virials = graph(*arguments)
    np.testing.assert_allclose(energies[:2], exact.energies[0], atol=1e-11)
    np.testing.assert_allclose(forces[:11], exact.forces[0], atol=1e-11)
    volume = silicon.get_volume()
    np.testing.assert_allclose(virials[1] / -volume, exact.stress[0, 1], atol=1e-12)
    assert torch.isfinite(virials).all()


def smallest(tiny_mace, count):
    """As small as models can be: they compile for half a minute of processor time."""
    from mace.modules.models import o3

    irreps = o3.Irreps("4x0e")
    options = {"num_interactions": 1, "hidden_irreps": irreps, "max_ell": 1, "correlation": 1}
    return [tiny_mace(seed, **options) for seed in range(count)]


def test_stress_is_compiled(tiny_mace, ethanol, silicon):
    """In a cell that is shorter than the cutoff, beside a molecule."""
    models = smallest(tiny_mace, 2)
    fast = FastForces(expected=2, patience_seconds=0.0)
    predictor = CommitteePredictor(models, dtype=torch.float64, fast=fast)
    batch = batch_of(silicon, ethanol)
    lists = predictor.neighbor_lists()
    deadline = time.monotonic() + 400
    while predictor.path == "eager" and time.monotonic() < deadline:
        out = predictor.predict(batch, lists, stress=True)
        time.sleep(0.05)
    assert predictor.path == "compiled"
    expected = CommitteePredictor(models, dtype=torch.float64).predict(batch, stress=True)
    np.testing.assert_allclose(out.forces, expected.forces, atol=1e-12)
    np.testing.assert_allclose(out.stress, expected.stress, atol=1e-14)
    assert expected.stress[:, 0].abs().max() > 1e-4
    assert not out.stress[:, 1].any()


def test_compiled_in_the_background_then_from_the_cache(tiny_mace, ethanol, silicon, cache):
    """From eager to compiled and back where the code doesn't fit; other weights; a second run."""
    models = smallest(tiny_mace, 3)
    fast = FastForces(expected=2, patience_seconds=0.0)
    predictor = CommitteePredictor(models[:2], dtype=torch.float32, fast=fast)
    reference = CommitteePredictor(models[:2], dtype=torch.float32)
    batch = batch_of(ethanol, silicon)
    lists = predictor.neighbor_lists()
    deadline = time.monotonic() + 400
    while predictor.path == "eager" and time.monotonic() < deadline:
        batch.positions += 1e-4
        out = predictor.predict(batch, lists)
        time.sleep(0.05)
    assert predictor.path == "compiled"
    assert len(list(cache.iterdir())) == 1
    expected = reference.predict(batch)
    np.testing.assert_allclose(out.forces, expected.forces, atol=2e-6)
    np.testing.assert_allclose(out.energies, expected.energies, atol=2e-5)

    # Fewer structures fit as well, more are dealt into parts; larger ones don't fit.
    small = batch_of(silicon)
    out = predictor.predict(small, predictor.neighbor_lists())
    assert predictor.path == "compiled"
    np.testing.assert_allclose(out.forces, reference.predict(small).forces, atol=2e-6)
    many = batch_of(ethanol, ethanol, silicon)
    out = predictor.predict(many, predictor.neighbor_lists())
    assert predictor.path == "compiled"
    np.testing.assert_allclose(out.forces, reference.predict(many).forces, atol=2e-6)
    large = batch_of(silicon.repeat(2))
    out = predictor.predict(large, predictor.neighbor_lists())
    assert predictor.path == "eager"
    np.testing.assert_array_equal(out.forces, reference.predict(large).forces)

    # Weights change: the first evaluation is compared, the second is compiled.
    predictor.load([models[2], models[0]])
    reference.load([models[2], models[0]])
    for _ in range(2):
        out = predictor.predict(small, predictor.neighbor_lists())
        np.testing.assert_allclose(out.forces, reference.predict(small).forces, atol=2e-6)
    assert predictor.path == "compiled"

    # Validation asks the same code about other structures, with weights that it never saw.
    asked = model_inputs(predictor, batch_of(silicon, ethanol, silicon))
    energies, forces = fast.evaluate_one(tensors_of(models[1]), asked)
    reference.load([models[1]])
    expected = reference.predict(batch_of(silicon, ethanol, silicon))
    np.testing.assert_allclose(forces, expected.forces[0], atol=2e-6)
    np.testing.assert_allclose(energies, expected.energies[0], atol=2e-5)
    assert fast.evaluate_one(tensors_of(models[1]), model_inputs(predictor, large)) is None

    # The next run finds the code in the cache, however short it is.
    again = CommitteePredictor(models[:2], dtype=torch.float32, fast=FastForces(2))
    for _ in range(2):
        again.predict(batch, again.neighbor_lists())
    assert again.path == "compiled"
