"""Every key of ARCHITECTURE and TRAINING does something, and what it should."""

from typing import Any

import numpy as np
import pytest
import torch
from ensemble_runs import crystals, effect, finish, merged, shared_entries

from fhi_al.handlers.train import train
from fhi_al.settings.mace import Architecture, Training

Settings = dict[str, Any]

_ARCHITECTURE: dict[str, Any] = {
    "atomic_energies": {"Cu": -1.0, "Au": -2.0},
    "model": "MACE",
    "r_max": 3.2,
    "num_channels": 5,
    "max_L": 1,
    "max_ell": 2,
    "radial_type": "gaussian",
    "num_radial_basis": 5,
    "num_cutoff_basis": 6,
    "interaction": "RealAgnosticInteractionBlock",
    "num_interactions": 3,
    "correlation": 1,
    "radial_MLP": [9],
    "gate": "tanh",
    "MLP_irreps": "5x0e",
    "interaction_first": "RealAgnosticInteractionBlock",
    "compute_avg_num_neighbors": False,
}

# What is changed, and what else is set in both runs so that the change can be seen.
_TRAINING: dict[str, tuple[Any, Settings]] = {
    "batch_size": (2, {}),
    "weight_decay": (0.1, {}),
    "lr": (0.02, {}),
    "amsgrad": (False, {"lr": 0.3}),
    "optimizer": ("adamw", {"weight_decay": 0.1}),
    "scheduler": ("ExponentialLR", {"lr_scheduler_gamma": 0.5}),
    "scaling": ("no_scaling", {}),
    "lr_scheduler_gamma": (0.5, {"scheduler": "ExponentialLR"}),
    "lr_factor": (0.1, {"scheduler_patience": 0, "lr": 0.3}),
    "scheduler_patience": (0, {"lr": 0.3}),
    "swa": (True, {"max_num_epochs": 4}),
    "ema_decay": (0.2, {}),
    "max_num_epochs": (4, {"swa": True}),
    "loss": ("huber", {}),
    "energy_weight": (50.0, {}),
    "forces_weight": (1.0, {}),
    "virials_weight": (50.0, {"loss": "virials"}),
    "stress_weight": (1e4, {"loss": "stress"}),
    "config_type_weights": ({"Default": 3.0}, {}),
    "clip_grad": (0.1, {"lr": 0.3}),
    "ema": (False, {}),
}

# Seen in other ways than by the weights, in tests of their own below or in the settings' tests.
_OTHERWISE = {"valid_batch_size", "eval_interval", "patience", "valid_fraction"}


def test_every_key_is_tested():
    assert set(_ARCHITECTURE) == set(Architecture.model_fields)
    assert set(_TRAINING) | _OTHERWISE == set(Training.model_fields)


def trained(make_folder, name: str, **training: Any) -> list[np.ndarray]:
    """Averaged weights after some epochs of convergence."""
    member, _ = converge(make_folder, name, {"TRAINING": training})
    return [weight.numpy().copy() for weight in member.averaged()]


_done: dict[str, Any] = {}


def converge(make_folder, name: str, settings: Settings, epochs: int = 6):
    """Member 0 and the event after some epochs; the same settings are run once."""
    key = repr((settings, epochs))
    if key not in _done:
        _done[key] = _converge(make_folder, name, settings, epochs)
    return _done[key]


def _converge(make_folder, name: str, settings: Settings, epochs: int):
    labels = crystals()
    folder = make_folder(merged({"TRAINING": {"lr": 0.01}}, settings), labels=labels, name=name)
    asked = effect(shared_entries(labels), stage="convergence", members=(0,), epochs=epochs)
    slices = train(asked, folder, None, "cpu")
    committee, event = finish(slices)
    return committee.members[0], event


@pytest.mark.parametrize("key", sorted(_TRAINING))
def test_a_training_key_changes_the_outcome(make_folder, key):
    value, context = _TRAINING[key]
    base = trained(make_folder, "base", **context)
    changed = trained(make_folder, "changed", **{**context, key: value})
    difference = max(np.abs(one - other).max() for one, other in zip(base, changed, strict=True))
    assert difference > 1e-7


@pytest.mark.parametrize("key", sorted(_ARCHITECTURE))
def test_an_architecture_key_changes_the_model(make_folder, key):
    # With scaling, the shift would make up for other atomic energies.
    base = {"TRAINING": {"scaling": "no_scaling"}}
    changed = merged(base, {"ARCHITECTURE": {key: _ARCHITECTURE[key]}})
    base, _ = converge(make_folder, "base", base, epochs=1)
    changed, _ = converge(make_folder, "changed", changed, epochs=1)
    structure = [
        {name: tuple(tensor.shape) for name, tensor in member.model.state_dict().items()}
        for member in (base, changed)
    ]
    if structure[0] == structure[1]:
        energies = [_energy(member) for member in (base, changed)]
        assert abs(energies[0] - energies[1]) > 1e-6
    assert base.spec != changed.spec


def _energy(member) -> float:
    from fhi_al.ensemble.data import Graphs, loader

    spec = member.spec
    graphs = Graphs(
        None, spec.elements, spec.r_max, spec.dtype, stress=False, config_type_weights={}
    )
    batch = next(iter(loader([graphs.build(crystals()[0])], 1)))
    return float(member.model(batch.to_dict())["energy"].detach())


@pytest.mark.parametrize(
    ("key", "value", "shape"),
    [
        ("num_channels", 5, {"node_embedding.linear.weight": (10,)}),
        ("num_interactions", 3, {"num_interactions": 3}),
        ("r_max", 3.2, {"r_max": 3.2}),
    ],
)
def test_an_architecture_key_means_what_mace_means(make_folder, key, value, shape):
    member, _ = converge(make_folder, "run", {"ARCHITECTURE": {key: value}}, epochs=1)
    ((name, expected),) = shape.items()
    tensor = member.model.state_dict()[name]
    found = tuple(tensor.shape) if isinstance(expected, tuple) else tensor.item()
    assert found == expected


def test_without_an_average_the_weights_are_the_raw_ones(make_folder):
    member, _ = converge(make_folder, "run", {"TRAINING": {"ema": False}}, epochs=2)
    assert member.ema is None
    assert all(map(torch.equal, member.averaged(), member.model.parameters()))


def test_weight_of_a_config_type_weighs_the_loss(make_folder):
    _, plain = converge(make_folder, "plain", {}, epochs=1)
    weights = {"TRAINING": {"config_type_weights": {"Default": 3.0}, "lr": 1e-12}}
    _, heavy = converge(make_folder, "heavy", weights, epochs=1)
    _, light = converge(make_folder, "light", {"TRAINING": {"lr": 1e-12}}, epochs=1)
    assert heavy.members[0].valid_loss == pytest.approx(3 * light.members[0].valid_loss, rel=1e-6)
    assert plain.members[0].valid_loss != heavy.members[0].valid_loss


def test_validation_batches_and_intervals(make_folder):
    labels = crystals()
    folder = make_folder(
        {"TRAINING": {"valid_batch_size": 1, "eval_interval": 2, "batch_size": 4}}, labels=labels
    )
    asked = effect(shared_entries(labels), stage="convergence", members=(0,), epochs=5)
    slices = train(asked, folder, None, "cpu")
    count = 0
    while True:
        try:
            next(slices)
        except StopIteration as end:
            _, event = end.value
            break
        count += 1
    assert [record[1] for record in event.history] == [2, 4, 5]
    assert count == 5 * 1 + 3 * 4


def test_patience_of_the_training_section(make_folder):
    settings = {"TRAINING": {"patience": 2, "lr": 1e-12, "weight_decay": 0.0}}
    _, event = converge(make_folder, "run", settings, epochs=9)
    assert event.members[0].epoch == 3
