"""Which energies are outliers, and what becomes of them."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from fhi_al.procedures.rejections import outlier
from fhi_al.procedures.run import finished, fold, step, wanted
from fhi_al.record.events import Advanced, Candidate, Check, Event, Labelled, Opened, Retried
from fhi_al.workers.simulated import SimulatedWorker, simulated_rules

KB = 8.617e-5  # eV/K


def thermal(n_atoms: int, temperature_K: float, n: int, seed: int) -> list[float]:
    """Potential energies of a harmonic molecule, in eV."""
    shape = (3 * n_atoms - 6) / 2
    energies = np.random.default_rng(seed).gamma(shape, KB * temperature_K, n)
    return [-100.0 + float(energy) for energy in energies]


@pytest.mark.parametrize("temperature_K", [10.0, 300.0, 3000.0, 10000.0])
@pytest.mark.parametrize("n_atoms", [3, 9, 60])
def test_no_temperature_makes_outliers(n_atoms, temperature_K):
    energies = sorted(thermal(n_atoms, temperature_K, 300, 1))
    for energy in thermal(n_atoms, temperature_K, 300, 2):
        assert outlier(energies, energy, 5.0 * n_atoms) is None


def test_broken_bonds_are_no_outliers():
    cold = sorted(thermal(9, 10.0, 300, 3))
    # Ethanol falls apart into atoms at 33.6 eV.
    assert outlier(cold, cold[0] + 33.6, 5.0 * 9) is None


def test_other_units_are_outliers():
    energies = sorted(thermal(3, 300.0, 3, 4))
    assert "max_energy_deviation" in str(outlier(energies, -100.0 / 27.2, 15.0))
    assert outlier(energies[:2], -100.0 / 27.2, 15.0) is None


def test_a_widely_spread_set_has_a_wide_range():
    energies = [100.0 * i for i in range(11)]
    assert outlier(energies, 1500.0, 1.0) is None
    assert outlier(energies, 10_000.0, 1.0) is not None


class Moody(SimulatedWorker):
    """Labels carry energies as real ones do; one in twenty is in other units."""

    def _label(self, effect) -> Event:
        event = super()._label(effect)
        if not isinstance(event, Labelled):
            return event
        random_ = random.Random(effect.key)
        energy = -100.0 + random_.random()
        wrong = len(self.labelled) > 12 and random_.random() < 0.05
        return dataclasses.replace(
            event, energy=energy / 27.2 if wrong else energy, formula="H2O", n_atoms=3
        )


def test_an_outlier_enters_no_dataset_and_its_walker_goes_back():
    rules = simulated_rules(desired_acc=1e-9, max_set_size=60, asynchronous=False)
    worker = Moody(rules)
    opened = Opened("run", rules.to_json(), "digest", "0", 3, ("H", "O"), "host", 0.0)
    journal: list[Event] = [opened]
    state = step(None, opened)
    went_back = set()
    while not finished(state):
        effect = wanted(state)[0]
        for reset in getattr(effect, "resets", ()):
            went_back.add(reset.trajectory)
        journal.append(worker.answer(effect))
        state = step(state, journal[-1])
    energies = {event.key: event.energy for event in journal if isinstance(event, Labelled)}
    wrong = {key for key, energy in energies.items() if energy > -50}
    assert wrong
    assert wrong == set(state.books.rejected)
    assert not wrong & {entry.key for entry in state.books.entries}
    about = state.books.rejected[min(wrong)]
    assert about.kind == "outlier"
    assert {state.books.rejected[key].origin.trajectory for key in wrong} <= went_back
    assert fold(journal) == state


def test_a_walker_that_breaks_where_the_reference_was_asked_ends_the_run():
    rules = simulated_rules(num_trajectories=1)

    class Hopeless(SimulatedWorker):
        def _advance(self, effect):
            key = self._key("frontier", effect.resets)
            broken = Candidate(0, 0, key, 0.1, None, "unstable", "a force of 1000 eV/Å")
            check = Check((), (), (), ())
            return Advanced(effect.id, effect.id, (0,), (0,), (check,), (broken,), 0.0, "simulated")

    worker = Hopeless(rules)
    state = step(None, Opened("run", rules.to_json(), "digest", "0", 3, ("H",), "host", 0.0))
    for _ in range(200):
        if state.books.failure:
            break
        state = step(state, worker.answer(wanted(state)[0]))
    assert "broke down 3 times" in str(state.books.failure)
    assert "a force of 1000 eV/Å" in str(state.books.failure)
    # Its structures are told of; each was labelled once.
    assert set(state.books.unstable) <= set(state.books.outcomes)
    assert len(worker.labelled) == len(set(worker.labelled))


@pytest.mark.parametrize("stage", ["initial_dataset", "active_learning"])
def test_rejected_structures_are_tried_again_on_request(stage):
    rules = simulated_rules(max_set_size=25, desired_acc=1e-9, initial_target=0.05)
    worker = SimulatedWorker(rules, rejects=0.3)
    opened = Opened("run", rules.to_json(), "digest", "0", 3, ("H", "O"), "host", 0.0)
    state = step(None, opened)
    journal: list[Event] = [opened]

    def go_on() -> None:
        nonlocal state
        journal.append(worker.answer(wanted(state)[0]))
        state = step(state, journal[-1])

    while state.stage != stage or len(state.books.rejected) < 3:
        go_on()
    rejected = tuple(state.books.rejected)
    worker = SimulatedWorker(rules, seed=1)
    journal.append(Retried(rejected))
    state = step(state, journal[-1])
    assert not state.books.rejected
    assert state.books.n_rejected == 0
    while not finished(state):
        go_on()
    assert not state.books.rejected
    assert set(rejected) <= {entry.key for entry in state.books.entries}
    assert len(state.books.entries) == len({entry.key for entry in state.books.entries})
    assert fold(journal) == state
