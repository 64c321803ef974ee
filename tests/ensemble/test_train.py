"""Training against MACE's own loop, and from one checkpoint to the next."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ensemble_runs import (
    crystals,
    effect,
    finish,
    label,
    molecules,
    own_entries,
    run,
    shared_entries,
)
from mace.tools.torch_geometric.dataloader import DataLoader
from mace.tools.train import evaluate, train_one_epoch

from fhi_al.ensemble.data import collate, member_keys
from fhi_al.ensemble.fast_gradients import KnownGradient
from fhi_al.ensemble.members import Committee, load_committee
from fhi_al.ensemble.train_member import begin, stage_rules, step
from fhi_al.ensemble.validation import validate
from fhi_al.handlers.train import train
from fhi_al.record.events import ALL_MEMBERS, Entry


def raw(committee: Committee, index: int = 0) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in committee.members[index].model.parameters()]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


class _Silent:
    def log(self, _: Any) -> None: ...


@pytest.mark.parametrize(
    ("labels", "loss"), [(molecules, "weighted"), (crystals, "stress"), (crystals, "virials")]
)
def test_an_epoch_is_maces_own(make_folder, labels, loss):
    """Weights, averages and validation equal those of mace-torch's loop to the last bit."""
    labels = labels()
    entries = shared_entries(labels)
    folder = make_folder({"TRAINING": {"loss": loss}}, labels=labels)
    ours, _ = run(folder, effect(entries, epochs=1))
    ours, event = run(folder, effect(entries, id="train-1", weights="train-0", epochs=2), ours)

    theirs = load_committee(folder, "train-0", "cpu")
    member = theirs.members[0]
    train_keys, valid_keys = member_keys(entries, 0)
    graphs = theirs.graphs(folder)
    output = {
        "energy": True,
        "forces": True,
        "virials": loss == "virials",
        "stress": loss == "stress",
    }
    batches = DataLoader(
        graphs.of(train_keys), batch_size=3, shuffle=True, generator=member.generator
    )
    for epoch in range(2):
        train_one_epoch(
            model=member.model,
            loss_fn=member.loss,
            data_loader=batches,
            optimizer=member.optimizer,
            epoch=epoch,
            output_args=output,
            max_grad_norm=10.0,
            ema=member.ema,
            logger=_Silent(),
            device=torch.device("cpu"),
            distributed=False,
        )
    torch.set_default_dtype(torch.float64)
    try:
        with member.ema.average_parameters():
            valid_loss, errors = evaluate(
                member.model,
                member.loss,
                DataLoader(graphs.of(valid_keys), batch_size=4),
                output,
                torch.device("cpu"),
            )
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(raw(ours), raw(theirs))
    assert all(map(torch.equal, ours.members[0].averaged(), member.averaged()))
    state = event.members[0]
    assert state.valid_loss == valid_loss
    assert state.force_mae == errors["mae_f"]
    assert state.energy_mae == errors["mae_e_per_atom"]


@pytest.mark.parametrize(
    "training", [{"clip_grad": 0.1}, {"clip_grad": None}, {"ema": False, "optimizer": "adamw"}]
)
def test_a_step_with_a_gradient_that_is_known_is_maces_own(make_folder, training):
    """To the last bit; and the tensors of the gradient, which may be another's, stay the same."""
    entries = shared_entries(molecules())
    folder = make_folder({"TRAINING": training})
    run(folder, effect(entries, members=(0,)))
    ours, theirs, twin = (load_committee(folder, "train-0", "cpu").members[0] for _ in range(3))
    graphs = load_committee(folder, "train-0", "cpu").graphs(folder)
    batch = graphs.of([label.key for label in molecules()][:3])
    loss = twin.loss(pred=twin.model(collate(batch).to_dict(), training=True), ref=collate(batch))
    loss.backward()
    parameters = list(ours.model.parameters())
    gradients = [p.grad for p in twin.model.parameters()]
    before = [gradient.clone() for gradient in gradients]

    class Known:
        def of(self, *_: Any) -> KnownGradient:
            return KnownGradient(loss.detach(), parameters, gradients)

    assert step(ours, batch, Known()) == float(loss.detach())
    assert step(theirs, batch) == float(loss.detach())
    assert not all(map(torch.equal, parameters, twin.model.parameters()))
    assert all(map(torch.equal, parameters, theirs.model.parameters()))
    assert all(map(torch.equal, ours.averaged(), theirs.averaged()))
    assert all(map(torch.equal, gradients, before))


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"ema": False, "optimizer": "adamw"},
        {"scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.5},
        {"scheduler_patience": 0, "lr_factor": 0.5, "lr": 0.05},
        {"swa": True, "max_num_epochs": 4},
    ],
)
def test_a_restart_changes_nothing(make_folder, training):
    """Four epochs in one go equal two, a checkpoint, another process, and two more."""
    entries = shared_entries(molecules())
    asked = {"stage": "convergence", "members": (1,), "epochs": 4}
    once = make_folder({"TRAINING": training}, name="once")
    whole, whole_event = run(once, effect(entries, **asked))
    twice = make_folder({"TRAINING": training}, name="twice")
    run(twice, effect(entries, **{**asked, "epochs": 2}))
    again = {**asked, "id": "train-1", "weights": "train-0", "epochs": 2}
    parts, event = run(twice, effect(entries, **again))
    assert same(raw(whole, 1), raw(parts, 1))
    assert event.members == whole_event.members
    assert event.members[1].epoch == 4
    assert all(map(torch.equal, whole.members[1].delivered(), parts.members[1].delivered()))
    rates = [
        [group["lr"] for group in committee.members[1].optimizer.param_groups]
        for committee in (whole, parts)
    ]
    assert rates[0] == rates[1]


def test_members_that_do_not_train_stay_as_they_are(make_folder):
    entries = shared_entries(molecules())
    folder = make_folder()
    committee, first = run(folder, effect(entries))
    before = raw(committee, 0), raw(committee, 1)
    committee, second = run(
        folder, effect(entries, id="train-1", weights="train-0", members=(1,)), committee
    )
    assert second.members[0] == first.members[0]
    assert same(raw(committee, 0), before[0])
    assert not same(raw(committee, 1), before[1])
    assert same(raw(load_committee(folder, "train-1", "cpu"), 0), before[0])


def test_a_training_that_is_cut_off_leaves_no_trace(make_folder):
    entries = shared_entries(molecules())
    folder = make_folder()
    committee, _ = run(folder, effect(entries))
    before = raw(committee)
    slices = train(effect(entries, id="train-1", weights="train-0"), folder, committee, "cpu")
    next(slices)
    next(slices)
    slices.close()
    assert not same(raw(committee), before)
    assert committee.weights is None
    assert not folder.checkpoint("train-1", 0).exists()
    committee.load(folder, "train-0")
    assert same(raw(committee), before)


def test_every_optimizer_step_and_validation_batch_is_a_slice(make_folder):
    entries = shared_entries(molecules(), n_valid=5)  # 7 to train on, in threes; 5 in fours
    folder = make_folder()
    asked = effect(entries, members=(0,), epochs=3)
    assert sum(1 for _ in train(asked, folder, None, "cpu")) == 3 * (3 + 2)


def test_labels_that_arrive_during_training_are_not_seen(make_folder):
    entries = list(shared_entries(molecules()[:-1]))
    folder = make_folder()
    slices = train(effect(entries, members=(0,)), folder, None, "cpu")
    next(slices)
    entries.append(Entry(molecules()[-1].key, ALL_MEMBERS, "train"))
    _, event = finish(slices)
    assert event.n_entries == 11
    assert event.members[0].n_train == 7


def test_a_batch_larger_than_the_set_is_the_set(make_folder):
    entries = shared_entries(molecules())
    few = make_folder({"TRAINING": {"batch_size": 8}}, name="few")
    many = make_folder({"TRAINING": {"batch_size": 100}}, name="many")
    assert same(raw(run(few, effect(entries))[0]), raw(run(many, effect(entries))[0]))


# --- stages ----------------------------------------------------------------------------------


def test_patience_ends_a_convergence_and_the_best_weights_are_delivered(make_folder):
    entries = shared_entries(molecules())
    folder = make_folder(
        {"TRAINING": {"lr": 0.2, "scheduler_patience": 1000}}, {"ACTIVE_LEARNING": {"patience": 3}}
    )
    asked = effect(entries, stage="convergence", members=(0,), epochs=60, fresh=True)
    committee, event = run(folder, asked)
    state = event.members[0]
    losses = [record[3] for record in event.history]
    assert state.stale_epochs == 3
    assert state.epoch == len(losses) < 60
    assert np.argmin(losses) == len(losses) - 4
    assert state.best_loss == min(losses) < losses[-1] == state.valid_loss
    member = committee.members[0]
    member.start_from_delivered()
    _, valid = member_keys(entries, 0)
    loss, _, _ = finish(validate(member, committee.graphs(folder).of(valid), 4))
    assert loss == pytest.approx(state.best_loss, rel=1e-12)


def test_margin_decides_on_improvement(make_folder):
    entries = shared_entries(molecules())
    folder = make_folder(active={"ACTIVE_LEARNING": {"margin": 1e9, "patience": 4}})
    _, event = run(folder, effect(entries, stage="convergence", members=(0,), epochs=20))
    state = event.members[0]
    assert state.epoch == 5  # the first validation, then four that can't be good enough
    assert state.best_loss < event.history[0][3]


def test_patience_that_was_not_chosen_ends_nothing(make_folder):
    entries = shared_entries(molecules())
    impatient = {"margin": 1e9, "patience": 1, "converge_stop_when": "epochs"}
    folder = make_folder(active={"ACTIVE_LEARNING": impatient})
    _, event = run(folder, effect(entries, stage="convergence", members=(0,), epochs=6))
    assert event.members[0].epoch == 6
    assert event.members[0].stale_epochs == 5


def test_active_learning_has_no_patience_and_validates_at_intervals(make_folder):
    entries = shared_entries(molecules())
    folder = make_folder(
        active={"ACTIVE_LEARNING": {"margin": 1e9, "patience": 1, "valid_skip": 3}}
    )
    committee, event = run(folder, effect(entries, members=(0,), epochs=7))
    assert [record[1] for record in event.history] == [3, 6, 7]
    assert event.members[0].stale_epochs == 4
    assert committee.members[0].best is None


def test_a_stage_goes_on_where_the_one_before_stood(make_folder):
    """With raw weights, average and optimizer, but with the learning rate of the settings."""
    entries = shared_entries(molecules())
    folder = make_folder({"TRAINING": {"scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.5}})
    committee, _ = run(folder, effect(entries, stage="initial_dataset", epochs=3))
    member = committee.members[0]
    assert member.optimizer.param_groups[0]["lr"] == pytest.approx(0.0025)
    updates = member.ema.num_updates
    asked = effect(entries, id="train-1", weights="train-0", stage="convergence", fresh=True)
    committee, event = run(folder, asked, committee)
    assert member.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    steps = {int(state["step"]) for state in member.optimizer.state_dict()["state"].values()}
    assert steps == {4 * 3}
    assert member.ema.num_updates == updates + 3
    assert member.progress.stage_epoch == 1
    assert event.members[0].best_loss == event.members[0].valid_loss


def test_after_a_convergence_its_best_weights_are_the_start(make_folder):
    entries = shared_entries(molecules())
    folder = make_folder({"TRAINING": {"lr": 0.2, "scheduler_patience": 1000}})
    asked = {"stage": "converge_initial", "members": (0,)}
    committee, event = run(folder, effect(entries, epochs=12, **asked))
    assert event.members[0].best_loss < event.members[0].valid_loss
    member = committee.members[0]
    best = [weight.clone() for weight in member.delivered()]
    begin(
        member,
        effect(entries, weights="train-0"),
        stage_rules("active_learning", folder.inputs, None),
    )
    assert all(map(torch.equal, member.model.parameters(), best))
    assert all(map(torch.equal, member.averaged(), best))
    assert not member.optimizer.state_dict()["state"]
    assert member.best is None
    assert member.state.best_loss is None


@pytest.mark.parametrize("reset", [False, True])
def test_the_optimizer_is_reset_when_asked(make_folder, reset):
    entries = shared_entries(molecules())
    folder = make_folder()
    committee, _ = run(folder, effect(entries, epochs=2))
    again = effect(entries, id="train-1", weights="train-0", reset_optimizer=reset)
    committee, _ = run(folder, again, committee)
    optimizer = committee.members[0].optimizer.state_dict()["state"]
    assert {int(state["step"]) for state in optimizer.values()} == {3 if reset else 9}


@pytest.mark.parametrize(
    ("stage", "scheduler_initial", "falls"),
    [
        ("initial_dataset", True, True),
        ("initial_dataset", False, False),
        ("active_learning", True, False),
        ("convergence", False, True),
    ],
)
def test_which_stages_have_a_scheduler(make_folder, stage, scheduler_initial, falls):
    entries = shared_entries(molecules())
    folder = make_folder(
        {"TRAINING": {"scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.5}},
        {"ACTIVE_LEARNING": {"scheduler_initial": scheduler_initial}},
    )
    committee, _ = run(folder, effect(entries, stage=stage, members=(0,), epochs=3))
    rate = committee.members[0].optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(0.01 * 0.25 if falls else 0.01)


def test_stage_two_changes_loss_and_learning_rate(make_folder):
    entries = shared_entries(molecules())
    folder = make_folder({"TRAINING": {"swa": True, "max_num_epochs": 8}})
    asked = effect(entries, stage="convergence", members=(0,), epochs=6)
    committee, _ = run(folder, asked)
    member = committee.members[0]
    assert not member.progress.stage_two
    asked = effect(
        entries, id="train-1", weights="train-0", stage="convergence", members=(0,), epochs=2
    )
    committee, event = run(folder, asked, committee)
    assert member.progress.stage_two
    assert float(member.loss.energy_weight) == 1000.0
    assert member.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    # MACE weighs the energy a thousandfold here; the best loss is of this stage alone.
    assert event.members[0].best_loss == min(record[3] for record in event.history)


def test_the_union_is_for_everyone_and_validation_labels_are_never_trained_on(make_folder):
    labels = molecules()
    entries = [*own_entries(labels), Entry(labels[0].key, 1, "valid")]
    entries.append(Entry(label(Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])).key, ALL_MEMBERS, "audit"))
    own, own_valid = member_keys(entries, 0)
    assert own == [item.key for index, item in enumerate(labels) if index in (0, 2, 4, 8, 10)]
    assert own_valid == [labels[6].key]
    for member in (0, 1, ALL_MEMBERS):
        union, valid = member_keys(entries, member, union=True)
        assert len(union) == 9
        assert valid == [labels[6].key, labels[7].key, labels[0].key]
        assert not set(union) & set(valid)
