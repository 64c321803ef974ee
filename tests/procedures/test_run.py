"""The state machines against simulated workers, in random orders of events."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhi_al.procedures.active_learning import ActiveState
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.run import finished, fold, step, wanted
from fhi_al.procedures.state import State
from fhi_al.procedures.threshold import Thresholds
from fhi_al.record.effects import Advance, Calculate, Effect, Isolate, Train
from fhi_al.record.events import (
    ALL_MEMBERS,
    Advanced,
    Closed,
    Entry,
    Event,
    Imported,
    Isolated,
    Labelled,
    LabelRejected,
    Opened,
    Started,
)
from fhi_al.record.kinds import role_of
from fhi_al.record.outcome import Worker
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules


def opened(rules: Rules, goal: str = "run") -> Opened:
    return Opened(goal, rules.to_json(), "digest", "0", 3, ("H", "O"), "host", time.time())  # type: ignore[arg-type]


def simulate(
    rules: Rules,
    worker: SimulatedWorker,
    order: random.Random,
    *,
    goal: str = "run",
    groups: int = 2,
    death: float = 0.0,
) -> Iterator[tuple[State, Event]]:
    """Drive the procedures as the controller does, finishing effects in a random order.

    Yields the state after every event. With probability `death` all work in flight is lost and the
    command starts again.
    """
    state = step(None, opened(rules, goal))
    yield state, opened(rules, goal)
    flying: dict[str, Effect] = {}
    for _ in range(20_000):
        if finished(state):
            return
        assert not state.books.failure, state.books.failure
        for effect in wanted(state):
            role = role_of(effect)
            busy = sum(started.worker.role == role for started in state.books.in_flight.values())
            if effect.id not in state.books.in_flight and busy < (
                groups if role == "reference" else 1
            ):
                event: Event = Started(effect.id, Worker(role, 0), type(effect).__name__)
                state = step(state, event)
                flying[effect.id] = effect
                yield state, event
        assert flying, f"deadlock in stage {state.stage}"
        if order.random() < death:
            flying.clear()
            event = opened(rules, goal)
        else:
            event = worker.answer(flying.pop(order.choice(sorted(flying))))
        state = step(state, event)
        yield state, event
    raise AssertionError("the run does not end")


def active(state: State) -> ActiveState | None:
    return state.stages.get("active_learning")


def check_invariants(state: State) -> None:
    assert state.books.n_valid >= 0
    assert state.books.n_valid == sum(entry.split == "valid" for entry in state.books.entries)
    keys = [entry.key for entry in state.books.entries]
    assert len(keys) == len(set(keys)), "a label is in two sets"
    owners = [e.member for e in state.books.entries if e.split == "train"]
    for member, size in enumerate(state.books.train_sizes):
        assert size == owners.count(member) + owners.count(ALL_MEMBERS)
    ids = [effect.id for effect in wanted(state)]
    assert len(ids) == len(set(ids)), "the same is wanted twice"
    assert all(state.books.outcomes[key] for key in keys)
    assert state.books.train_size <= state.rules.max_set_size
    if active(state):
        assert 0 <= active(state).n_valid <= active(state).n_added <= len(state.books.entries)
        assert min(active(state).epochs, active(state).stale_epochs, active(state).stuck) >= 0
        for walker in active(state).walkers:
            assert (walker.status == "labelling") == (walker.candidate is not None)
            if walker.status == "training":
                assert 0 < walker.epochs_left <= state.rules.max_epochs_worker
                assert state.books.entries[walker.entry].split == "train"
                assert state.books.entries[walker.entry].key == walker.home
            assert 0 <= walker.step <= state.rules.max_MD_steps
        waiting = [w.candidate.key for w in active(state).walkers if w.candidate]
        assert not set(waiting) & set(state.books.outcomes), (
            "a labelled structure waits for its label"
        )
        assert not set(waiting) & set(active(state).audits), "what is trained on is no check"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    initial_method=st.sampled_from(["aimd", "foundation", "perturb"]),
    asynchronous=st.booleans(),
    groups=st.integers(1, 4),
    death=st.sampled_from([0.0, 0.05]),
    rejects=st.sampled_from([0.0, 0.3]),
    unstable=st.sampled_from([0.0, 0.02]),
    repeats=st.sampled_from([0.0, 0.2]),
    audit_every=st.sampled_from([0, 20]),
    converge_initial=st.booleans(),
    max_initial_set_size=st.sampled_from([None, 16]),
    n_geometries=st.sampled_from([1, 3]),
    threshold_systems=st.sampled_from([(), ("a", "b", "a")]),
)
def test_invariants_hold_in_every_order(
    seed, groups, death, rejects, unstable, repeats, **changes: object
) -> None:
    rules = simulated_rules(**changes)
    worker = SimulatedWorker(rules, seed, rejects=rejects, unstable=unstable, repeats=repeats)
    thresholds = Thresholds(rules.threshold, rules.threshold_systems)
    journal = []
    for state, event in simulate(rules, worker, random.Random(seed), groups=groups, death=death):
        check_invariants(state)
        journal.append(event)
        if isinstance(event, Advanced):
            for check in event.checks:
                pairs = zip(check.trajectories, check.uncertainties, strict=True)
                for trajectory, uncertainty in pairs:
                    thresholds.of(trajectory).add(uncertainty)
            assert active(state)
            for trajectory, system in enumerate(rules.threshold_systems or ("",)):
                known = active(state).histories.get(system, ())
                assert tuple(known) == thresholds.of(trajectory).history
        for effect in wanted(state):
            if isinstance(effect, Advance):
                # What molecular dynamics compares with follows from the journal alone.
                for known in effect.histories:
                    expected = thresholds.of_system(known.system)
                    assert known.values == expected.history
                    assert known.n_estimates == expected.n_estimates
    assert state.stage == "done"
    assert fold(journal) == state, "the state does not follow from the journal"
    if not death:
        assert max(Counter(worker.labelled).values()) == 1, "a label was bought twice"


def test_each_initial_label_belongs_to_one_member_and_each_later_one_to_all() -> None:
    rules = simulated_rules(max_initial_set_size=12, initial_target=1e-9)
    *_, (state, _) = simulate(rules, SimulatedWorker(rules), random.Random(0))
    members = Counter(entry.member for entry in state.books.entries)
    assert members[0] == members[1] == 6
    assert members[ALL_MEMBERS] == len(state.books.entries) - 12 > 0


def test_validation_share_is_as_asked() -> None:
    rules = simulated_rules(valid_ratio=0.25, desired_acc=1e-9, max_set_size=100)
    *_, (state, _) = simulate(rules, SimulatedWorker(rules), random.Random(1))
    assert state.books.n_valid / len(state.books.entries) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"desired_acc": 0.03}, "reached desired_acc"),
        ({"desired_acc": 1e-9, "max_set_size": 12}, "max_set_size"),
        ({"desired_acc": 1e-9, "max_MD_steps": 100, "max_set_size": 10**6}, "max_MD_steps"),
    ],
)
def test_active_learning_stops_for_the_right_reason(changes: dict, reason: str) -> None:
    rules = simulated_rules(**changes)
    *_, (state, _) = simulate(rules, SimulatedWorker(rules), random.Random(2))
    assert active(state)
    assert reason in str(active(state).reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"initial_target": 0.1}, "initial_accuracy_factor"),
        ({"initial_target": 1e-9, "max_initial_epochs": 8}, "max_initial_epochs"),
        ({"initial_target": 1e-9, "max_initial_set_size": 6}, "max_initial_set_size"),
    ],
)
def test_initial_dataset_stops_for_the_right_reason(changes: dict, reason: str) -> None:
    rules = simulated_rules(**changes)
    worker = SimulatedWorker(rules)
    *_, (state, _) = simulate(rules, worker, random.Random(3), goal="initial_dataset")
    assert finished(state)
    assert reason in str(state.stages["initial_dataset"].reason)


def test_walkers_wait_for_their_epochs() -> None:
    """Between a walker's label and its next step lie max_epochs_worker epochs."""
    rules = simulated_rules(max_epochs_worker=6, desired_acc=1e-9, num_trajectories=1)
    since: int | None = None
    for state, event in simulate(rules, SimulatedWorker(rules), random.Random(4)):
        if active(state) is None:
            continue
        (walker,) = active(state).walkers
        if isinstance(event, Advanced) and since is not None:
            assert active(state).epochs - since >= 6
            since = None
        if walker.status == "training" and since is None:
            since = active(state).epochs


@pytest.mark.parametrize("asynchronous", [True, False])
def test_walkers_go_on_early_only_where_training_keeps_pace(asynchronous: bool) -> None:
    """With overlap there are at least as many epochs a label as where all walkers wait together."""
    rules = simulated_rules(asynchronous=asynchronous, desired_acc=1e-9, max_set_size=60)
    left: list[int] = []
    n_early = 0
    worker = SimulatedWorker(rules)
    for state, _ in simulate(rules, worker, random.Random(5), groups=rules.reference_groups):
        own = active(state)
        if own is None or own.reason:
            continue
        for walker, before in zip(own.walkers, left, strict=False):
            if walker.status != "training" and before > rules.intermediate_epochs:
                n_early += 1
                labels = own.n_added - own.n_valid
                assert own.epochs >= labels * rules.max_epochs_worker / rules.num_trajectories
                assert sum(w.candidate is not None for w in own.walkers) <= 2
        left = [w.epochs_left if w.status == "training" else 0 for w in own.walkers]
    assert (n_early > 3) == asynchronous


def test_a_run_whose_labels_all_fail_stops_with_advice() -> None:
    rules = simulated_rules(max_failed_fraction=0.5)
    worker = SimulatedWorker(rules, rejects=1.0)
    state = step(None, opened(rules))
    for _ in range(1000):
        effects = wanted(state)
        if not effects:
            break
        state = step(state, worker.answer(effects[0]))
    assert "max_failed_fraction" in str(state.books.failure)


def test_a_rejected_walker_goes_back_and_nothing_enters_a_dataset() -> None:
    rules = simulated_rules()
    worker = SimulatedWorker(rules, rejects=0.4)
    rejected = set()
    resets = 0
    state = step(None, opened(rules))
    while not finished(state):
        effect = wanted(state)[0]
        resets += len(getattr(effect, "resets", ()))
        state = step(state, worker.answer(effect))
        rejected |= {key for key, there in state.books.outcomes.items() if not there}
    assert resets > 0
    assert not rejected & {entry.key for entry in state.books.entries}


def test_wanted_changes_nothing() -> None:
    rules = simulated_rules()
    for state, _ in simulate(rules, SimulatedWorker(rules), random.Random(5)):
        assert wanted(state) == wanted(state)


def test_closed_commands_leave_the_state_alone() -> None:
    rules = simulated_rules()
    journal = [event for _, event in simulate(rules, SimulatedWorker(rules), random.Random(6))]
    middle = len(journal) // 2
    assert fold([*journal[:middle], Closed("stopped", 0.0)]) == fold(journal[:middle])


def test_optimizer_is_reset_when_training_is_stuck() -> None:
    rules = simulated_rules(patience=6, desired_acc=1e-9, margin=10.0, max_set_size=30)
    resets = []
    state = step(None, opened(rules))
    worker = SimulatedWorker(rules)
    while state.stage != "convergence":
        effect = wanted(state)[0]
        if state.stage == "active_learning" and hasattr(effect, "reset_optimizer"):
            resets.append(effect.reset_optimizer)
        state = step(state, worker.answer(effect))
    assert any(resets)
    assert not all(resets)


class AtomsWorker(SimulatedWorker):
    """Answers for isolated atoms in several spin states.

    Args:
        rules: of the run.
        energies: of an element with so many unpaired electrons; None: it can't be computed.
    """

    def __init__(self, rules: Rules, energies: dict[tuple[str, int], float | None]) -> None:
        super().__init__(rules)
        self.energies = {f"{element} {unpaired}": e for (element, unpaired), e in energies.items()}
        self.atoms = tuple((element, spin, f"{element} {spin}") for element, spin in energies)

    def answer(self, effect: Effect) -> Event:
        if isinstance(effect, Isolate):
            return Isolated(effect.id, self.atoms)
        if not isinstance(effect, Calculate) or effect.key not in self.energies:
            return super().answer(effect)
        energy = self.energies[effect.key]
        if energy is None:
            return LabelRejected(effect.id, effect.key, "not converged", 0.0)
        return Labelled(effect.id, effect.key, energy, 0.0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("oxygen", "lowest"),
    [
        ({0: -2040.0, 2: -2043.0, 4: -2036.0}, -2043.0),
        ({0: -2043.5, 2: -2043.0, 4: -2036.0}, -2043.5),
        ({0: None, 2: -2040.0, 4: -2041.0}, -2041.0),
        ({0: -2040.0, 2: -2039.0, 4: None}, -2040.0),
    ],
)
def test_atomic_energies_take_the_lowest_state(oxygen, lowest, seed) -> None:
    """Whichever comes first, and of those that could be computed."""
    rules = simulated_rules(auto_atomic_energies=True)
    worker = AtomsWorker(rules, {("H", 1): -13.6, **{("O", n): e for n, e in oxygen.items()}})
    *_, (state, _) = simulate(rules, worker, random.Random(seed))
    assert state.books.atomic_energies == {"H": -13.6, "O": lowest}


def test_an_element_without_any_state_ends_the_run() -> None:
    rules = simulated_rules(auto_atomic_energies=True)
    worker = AtomsWorker(rules, {("H", 1): None, ("O", 0): None, ("O", 2): -2043.0})
    state = step(None, opened(rules))
    while not state.books.failure:
        state = step(state, worker.answer(wanted(state)[0]))
    assert "no spin state of the isolated atom H could be computed" in state.books.failure


@pytest.mark.parametrize(
    ("weights", "converge", "stage"),
    [
        ("import", False, "active_learning"),
        ("import", True, "converge_initial"),
        (None, False, "converge_initial"),
    ],
)
def test_imported_models_are_trained_first_where_the_user_says_so(weights, converge, stage) -> None:
    rules = simulated_rules(converge_imported=converge)
    state = step(None, opened(rules, "active_learning"))
    (effect,) = wanted(state)
    entries = tuple(Entry(str(i), ALL_MEMBERS, "train") for i in range(4))
    state = step(state, Imported(effect.id, weights, entries, ()))
    assert state.stage == stage
    if stage == "converge_initial":
        (training,) = wanted(state)
        assert isinstance(training, Train)
        assert training.weights == weights
