"""Members: their seeds, their constants, and what a checkpoint gives back."""

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from ensemble_runs import crystals, effect, label, molecules, run, shared_entries
from mace.modules import gate_dict, interaction_classes, scaling_classes
from test_train import raw, same

from fhi_al.ensemble import architecture
from fhi_al.ensemble.data import loader
from fhi_al.ensemble.members import load_committee, member_seeds
from fhi_al.handlers.train import train
from fhi_al.record.events import ALL_MEMBERS, Entry
from fhi_al.settings.mace import Architecture


def forces(model: torch.nn.Module, committee, folder, keys) -> torch.Tensor:
    graphs = committee.graphs(folder).of(keys)
    return torch.cat([model(batch.to_dict())["forces"].detach() for batch in loader(graphs, 1)])


def keys_of(labels) -> list[str]:
    return [item.key for item in labels]


def test_members_differ_and_seeds_repeat(make_folder):
    entries = shared_entries(molecules())
    one, _ = run(make_folder(name="one"), effect(entries))
    two, _ = run(make_folder(name="two"), effect(entries))
    other, _ = run(make_folder({"GENERAL": {"seed": 8}}, name="three"), effect(entries))
    assert same(raw(one, 0), raw(two, 0))
    assert same(raw(one, 1), raw(two, 1))
    assert not same(raw(one, 0), raw(one, 1))
    assert not same(raw(one, 0), raw(other, 0))
    assert member_seeds(7, 3)[:2] == member_seeds(7, 2)
    assert len({*member_seeds(7, 50), *member_seeds(8, 50)}) == 100


def test_nothing_global_is_changed(make_folder):
    folder = make_folder()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    slices = train(effect(shared_entries(molecules())), folder, None, "cpu")
    for _ in slices:
        assert torch.get_default_dtype() == torch.float32
    architecture.build_model(spec_of(folder), seed=3)
    assert torch.get_default_dtype() == torch.float32
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    # MACE's loader draws a seed for its (absent) worker processes from torch's generator; the
    # models' weights and the order of the batches don't depend on it.
    assert same(raw(load_committee(folder, "train-0", "cpu")), _with_other_global_seed(make_folder))


def _with_other_global_seed(make_folder):
    torch.manual_seed(99)
    committee, _ = run(make_folder(name="again"), effect(shared_entries(molecules())))
    return raw(committee)


def spec_of(folder):
    return load_committee(folder, "train-0", "cpu").members[0].spec


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_reloaded_checkpoint_gives_bit_equal_forces(make_folder, dtype):
    """avg_num_neighbors is a plain number outside the state dict; here it is an odd one."""
    entries = shared_entries(molecules())
    folder = make_folder({"GENERAL": {"default_dtype": dtype}})
    committee, _ = run(folder, effect(entries, stage="convergence", epochs=3))
    for member in committee.members:
        member.spec = dataclasses.replace(member.spec, avg_num_neighbors=3.21)
        for interaction in member.model.interactions:
            interaction.avg_num_neighbors = 3.21
    committee.save(folder, "changed")
    again = load_committee(folder, "changed", "cpu")
    assert again.dtype == getattr(torch, dtype)
    keys = keys_of(molecules())
    for old, new in zip(committee.models(), again.models(), strict=True):
        assert torch.equal(forces(old, committee, folder, keys), forces(new, again, folder, keys))
        assert new.interactions[0].avg_num_neighbors == 3.21
    wrong = load_committee(folder, "train-0", "cpu").models()[0]
    difference = forces(wrong, again, folder, keys) - forces(new, again, folder, keys)
    assert difference.abs().max() > 1e-3


def test_a_checkpoint_is_plain_data(make_folder):
    """Loadable without running any code of the file's: tensors, numbers, text."""
    folder = make_folder({"TRAINING": {"swa": True, "max_num_epochs": 2}})
    run(folder, effect(shared_entries(molecules()), stage="convergence", epochs=3))
    state = torch.load(folder.checkpoint("train-0", 0), weights_only=True)
    assert state["stage_two_scheduler"] is not None
    assert state["spec"]["elements"] == (1, 6, 8)
    assert state["ema"]["collected_params"] is None


def test_predicting_models_are_apart_from_training_ones(make_folder):
    entries = shared_entries(molecules())
    folder = make_folder()
    committee, _ = run(folder, effect(entries))
    models = committee.models()
    keys = keys_of(molecules())
    before = forces(models[0], committee, folder, keys)
    committee, _ = run(folder, effect(entries, id="train-1", weights="train-0"), committee)
    assert torch.equal(forces(models[0], committee, folder, keys), before)
    refreshed = committee.models()
    assert refreshed[0] is models[0]
    assert not torch.equal(forces(models[0], committee, folder, keys), before)
    for model, member in zip(refreshed, committee.members, strict=True):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert all(map(torch.equal, model.parameters(), member.averaged()))


# --- constants -------------------------------------------------------------------------------


def test_constants_are_the_same_in_all_members_and_stay(make_folder):
    labels = crystals()
    folder = make_folder(labels=labels)
    own = [Entry(item.key, index % 2, "train") for index, item in enumerate(labels[:4])]
    committee, _ = run(folder, effect(own))
    spec = committee.members[0].spec
    assert committee.members[1].spec == spec
    # Referees: plain numpy and ASE, over the first training sets of both members together.
    counts = [[(item.structure.numbers == z).sum() for z in (29, 79)] for item in labels[:4]]
    energies = [item.energy for item in labels[:4]]
    np.testing.assert_allclose(
        np.array(counts) @ np.array(spec.atomic_energies), np.mean(energies), rtol=1e-12
    )
    distances = [item.structure.to_atoms().repeat(3).get_all_distances()[52:56] for item in labels]
    neighbors = np.mean([((row < 3.0).sum(axis=1) - 1).mean() for row in distances[:4]])
    assert spec.avg_num_neighbors == pytest.approx(neighbors, rel=0.2)
    squares = np.concatenate([item.forces.ravel() ** 2 for item in labels[:4]])
    assert spec.scale == pytest.approx(np.sqrt(squares.mean()))
    more = [*own, *(Entry(item.key, ALL_MEMBERS, "train") for item in labels[4:])]
    committee, _ = run(folder, effect(more, id="train-1", weights="train-0"), committee)
    assert committee.members[0].spec == spec
    assert load_committee(folder, "train-1", "cpu").members[1].spec == spec


def test_atomic_energies_given_computed_or_fitted(make_folder):
    entries = shared_entries(molecules())
    given = {"H": -10.0, "C": -1000.0, "O": -2000.0}
    folder = make_folder({"ARCHITECTURE": {"atomic_energies": given}}, name="given")
    committee, _ = run(folder, effect(entries))
    assert committee.members[0].spec.atomic_energies == (-10.0, -1000.0, -2000.0)
    energies = committee.members[1].model.atomic_energies_fn.atomic_energies
    assert energies.flatten().tolist() == [-10.0, -1000.0, -2000.0]
    folder = make_folder({"ARCHITECTURE": {"atomic_energies": "auto"}}, name="computed")
    computed = (("C", -3.0), ("H", -1.0), ("O", -5.0))
    committee, _ = run(folder, effect(entries, atomic_energies=computed))
    assert committee.members[0].spec.atomic_energies == (-1.0, -3.0, -5.0)


def test_a_new_element_in_the_data_refits_the_energies_once(make_folder):
    water = tuple(
        label(Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93 + 0.01 * i, 0]]))
        for i in range(4)
    )
    labels = (*molecules(), *water)
    folder = make_folder(labels=labels)
    first = [Entry(item.key, ALL_MEMBERS, "train") for item in water]
    committee, _ = run(folder, effect(first))
    assert committee.members[0].progress.fitted_elements == (1, 8)
    before = committee.members[0].spec.atomic_energies
    committee, _ = run(folder, effect(first, id="train-1", weights="train-0"), committee)
    assert committee.members[0].spec.atomic_energies == before
    more = [*first, *shared_entries(molecules())]
    committee, _ = run(folder, effect(more, id="train-2", weights="train-1"), committee)
    spec = committee.members[0].spec
    assert spec.atomic_energies != before
    assert committee.members[1].spec == spec
    again = load_committee(folder, "train-2", "cpu").members[0]
    buffer = again.model.atomic_energies_fn.atomic_energies.flatten()
    assert tuple(buffer.tolist()) == spec.atomic_energies
    assert again.progress.fitted_elements == (1, 6, 8)


def test_without_avg_num_neighbors_it_is_one(make_folder):
    folder = make_folder({"ARCHITECTURE": {"compute_avg_num_neighbors": False}})
    committee, _ = run(folder, effect(shared_entries(molecules())))
    assert committee.members[0].spec.avg_num_neighbors == 1.0


# --- architecture ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interaction", "gate"),
    [
        *((name, None) for name in sorted(interaction_classes)),
        ("RealAgnosticResidualInteractionBlock", "tanh"),
    ],
)
def test_a_foreign_model_is_rebuilt_bit_for_bit(tiny_mace, interaction, gate):
    """From the model alone, for every interaction block that MACE has."""
    block = interaction_classes[interaction]
    first = block if interaction != "RealAgnosticAttResidualInteractionBlock" else None
    foreign = tiny_mace(
        3,
        interaction_cls=block,
        interaction_cls_first=first or interaction_classes["RealAgnosticInteractionBlock"],
        gate=gate_dict[gate or "silu"],
        distance_transform="Agnesi" if gate else "None",
        pair_repulsion=gate is not None,
    )
    spec, rebuilt = architecture.rebuild(foreign, "float64", "foreign.model")
    graph = _batch(molecules()[0], spec)
    for key in ("energy", "forces"):
        theirs, ours = foreign(graph.to_dict())[key], rebuilt(graph.to_dict())[key]
        assert torch.equal(theirs, ours)


def _batch(item, spec):
    from fhi_al.ensemble.data import Graphs

    graphs = Graphs(
        None, spec.elements, spec.r_max, spec.dtype, stress=False, config_type_weights={}
    )
    return next(iter(loader([graphs.build(item)], 1)))


def test_names_are_those_of_mace():
    fields = Architecture.model_fields
    assert set(fields["interaction"].annotation.__args__) == set(interaction_classes)
    assert set(architecture.architecture_options(Architecture())) <= set(
        vars(architecture.mace_options({}))
    )
    assert {"std_scaling", "rms_forces_scaling"} < set(scaling_classes)
