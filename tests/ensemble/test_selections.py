"""A look at the pool by the ML worker, with the committee of a checkpoint."""

from __future__ import annotations

import json

from ensemble_runs import DIGEST, effect, finish, molecules, run, shared_entries

from fhi_al.atoms.structure import Structure
from fhi_al.record.codec import from_json, to_json
from fhi_al.record.effects import Select
from fhi_al.record.events import Selected
from fhi_al.workers.ml_worker import MlWorker


def test_the_worker_chooses_and_its_answer_can_be_kept(make_folder):
    known, others = molecules()[:8], molecules()[8:]
    folder = make_folder({"MISC": {"evaluation": "eager", "device": "cpu"}}, labels=known)
    entries = shared_entries(known)
    run(folder, effect(entries))
    copy = known[0].structure.to_atoms()
    copy.rattle(1e-4, seed=1)
    keys = [
        folder.structures.put(structure, DIGEST)
        for structure in (Structure.from_atoms(copy), *(other.structure for other in others))
    ]
    asked = Select(
        id="select-0",
        weights="train-0",
        waiting=tuple(sorted(keys)),
        ahead=(),
        entries=entries,
        count=2,
        capacity=1,
        by="descriptors",
        alike=0.01,
        weight=0.5,
    )
    answer = finish(MlWorker(folder, "cpu").run(asked))
    assert isinstance(answer, Selected)
    assert (answer.effect, answer.weights) == ("select-0", "train-0")
    assert answer.seconds > 0
    assert len(answer.chosen) == 2
    assert set(answer.chosen) <= set(keys[1:])
    dropped = dict(answer.dropped)
    assert dropped.pop(keys[0]).startswith(f"like {known[0].key}, ")
    (why,) = dropped.values()
    assert "not among the 1 largest" in why
    assert {key for key, _ in answer.scores} | {*dropped, keys[0]} == set(keys)
    assert min(score for _, score in answer.scores) > 0
    assert from_json(json.loads(json.dumps(to_json(answer)))) == answer
