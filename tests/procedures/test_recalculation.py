"""The recalculation of a dataset as a state machine."""

from __future__ import annotations

import time

from fhi_al.procedures.run import finished, fold, step, wanted
from fhi_al.record.effects import Calculate
from fhi_al.record.events import Event, Labelled, LabelRejected, Opened, Retried, Sampled, Started
from fhi_al.record.outcome import Worker
from fhi_al.workers.simulated import simulated_rules


def opened() -> Opened:
    rules = simulated_rules(auto_atomic_energies=True).to_json()
    return Opened("recalculate", rules, "digest", "0", 3, ("H",), "host", time.time())


def test_every_structure_is_wanted_until_it_has_an_outcome() -> None:
    keys = tuple(f"{number:04d}" for number in range(2500))
    history: list[Event] = [opened()]
    state = fold(history)
    assert state is not None
    assert not finished(state)
    assert not wanted(state)

    history.append(Sampled("dataset", None, keys, 0.0, ("H2O1",) * len(keys)))
    state = step(state, history[-1])
    done = []
    while not finished(state):
        effects = wanted(state)
        assert 0 < len(effects) <= 1000
        effect = effects[-1]  # in any order
        assert isinstance(effect, Calculate)
        assert effect.key not in done
        done.append(effect.key)
        if len(done) % 7:
            event: Event = Labelled(effect.id, effect.key, -1.0, 0.1, None, "H2O", 3)
        else:
            event = LabelRejected(effect.id, effect.key, "failed", 0.1)
        for one in (Started(effect.id, Worker("reference", 0), "Calculate"), event):
            history.append(one)
            state = step(state, one)
    assert sorted(done) == list(keys)
    assert len(state.books.rejected) == len(keys) // 7
    assert not wanted(state)
    assert not state.books.entries
    assert fold(history) == state
    # A command that finds all this has nothing to do, unless it is told to try again.
    state = step(state, opened())
    assert finished(state)
    state = step(state, Retried(tuple(state.books.rejected)))
    assert not finished(state)
    assert len(wanted(state)) == len(keys) // 7
