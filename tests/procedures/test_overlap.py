"""How well the procedures keep reference groups at work, in virtual time.

What is decided is real, what it costs is made up: a label takes as long as it is told to, molecular
dynamics and training about what they take for a small molecule. benchmarks/overlap.py measures the
same with real work.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import pytest

from fhi_al.procedures.rules import Rules
from fhi_al.procedures.run import finished, step, wanted
from fhi_al.record.effects import Advance, Calculate, Effect, Sample, Train
from fhi_al.record.events import Advanced, Event, Opened, Started
from fhi_al.record.outcome import Worker
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules

QUEUE = 2
"""Effects that a group holds: one in work and one queued."""


@dataclass
class Took:
    """What a run took, in virtual seconds.

    Attributes:
        wall: from its start to its end.
        reference: work of a group, mean over the groups.
        ml: work of the ML group.
        first: when the first label was begun.
        last: when the last label was there.
        n_labels: that were bought.
    """

    wall: float = 0.0
    reference: float = 0.0
    ml: float = 0.0
    first: float = -1.0
    last: float = 0.0
    n_labels: int = 0

    @property
    def bound(self) -> float:
        return max(self.reference, self.ml)

    @property
    def busy(self) -> float:
        return self.reference / (self.last - self.first)


def cost(effect: Effect, event: Event) -> float:
    """Seconds of the ML group."""
    if isinstance(effect, Advance):
        assert isinstance(event, Advanced)
        return len(event.checks) * (0.1 + 0.25 * len(effect.trajectories))
    if isinstance(effect, Train):
        share = len(effect.members) if effect.stage == "initial_dataset" else 1
        trained_on = sum(entry.split == "train" for entry in effect.entries) / share
        return 0.1 + 0.0075 * effect.epochs * trained_on
    return 0.2 * effect.count if isinstance(effect, Sample) else 0.3


def simulate(rules: Rules, label_s: float, groups: int = 1) -> Took:
    """Run as the controller does, with a clock that jumps from outcome to outcome."""
    worker = SimulatedWorker(rules, seed=1)
    took, now = Took(), 0.0
    free = [0.0] * groups
    held = [0] * groups
    ml_busy = False
    number = itertools.count()  # of outcomes at the same time, the first goes first
    outcomes: list[tuple[float, int, Event, int]] = []
    state = step(None, Opened("run", rules.to_json(), "", "0", 3, ("H",), "host", 0.0))
    while not finished(state):
        for effect in wanted(state):
            sequential = not rules.asynchronous and state.books.in_flight
            if effect.id in state.books.in_flight or sequential:
                continue
            group = -1
            if isinstance(effect, Calculate):
                group = held.index(min(held))
                if held[group] == QUEUE:
                    continue
            elif ml_busy:
                continue
            state = step(
                state,
                Started(
                    effect.id,
                    Worker("ML", 0) if group < 0 else Worker("reference", group),
                    type(effect).__name__,
                ),
            )
            event = worker.answer(effect)
            if group < 0:
                ml_busy, end = True, now + cost(effect, event)
                took.ml += end - now
            else:
                begin = max(now, free[group])
                held[group] += 1
                end = free[group] = begin + label_s
                took.first = begin if took.first < 0 else took.first
                took.reference += label_s / groups
                took.n_labels += 1
            heapq.heappush(outcomes, (end, next(number), event, group))
        now, _, event, group = heapq.heappop(outcomes)
        if group < 0:
            ml_busy = False
        else:
            held[group] -= 1
            took.last = now
        state = step(state, event)
    took.wall = now
    return took


def rules(**changes: object) -> Rules:
    """Trajectories and members of the ethanol example."""
    return simulated_rules(
        **{
            "ensemble_size": 4,
            "num_trajectories": 4,
            "n_samples": 2,
            "max_initial_set_size": 8,
            "initial_intermediate_epochs": 30,
            "max_initial_epochs": 30,
            "initial_target": 1e-9,
            "desired_acc": 1e-9,
            "valid_ratio": 0.1,
            "max_set_size": 150,
            "max_MD_steps": 10**6,
            "max_epochs_worker": 4,
            "intermediate_epochs": 1,
            "threshold_factor": 1.2,
            "converge_al": False,
            "patience": 10**6,
            **changes,
        }
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_a_reference_that_dominates_never_waits(groups: int) -> None:
    took = simulate(rules(), label_s=8.0 * groups, groups=groups)
    print(f"busy {100 * took.busy:.1f}%, wall / bound {took.wall / took.bound:.3f}")
    assert took.reference > 2 * took.ml
    assert took.busy >= 0.95
    assert took.wall <= 1.08 * took.bound


def test_at_equal_cost_most_of_the_reference_is_hidden() -> None:
    together, apart = (simulate(rules(asynchronous=a), label_s=2.0) for a in (True, False))
    print(
        f"reference {together.reference:.0f} s, ML {together.ml:.0f} s ({apart.ml:.0f} s apart); "
        f"wall {together.wall:.0f} s, {apart.wall:.0f} s apart"
    )
    assert together.reference == pytest.approx(together.ml, rel=0.25)
    assert together.n_labels == pytest.approx(apart.n_labels, abs=5)
    assert together.wall <= 1.2 * together.bound
    # Not twice as fast: walkers that don't wait together share fewer epochs of training.
    assert apart.wall >= 1.6 * together.wall


def test_a_free_reference_costs_nothing() -> None:
    took = simulate(rules(), label_s=1e-6)
    assert took.wall == pytest.approx(took.ml, rel=0.01)
