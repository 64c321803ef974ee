"""The same run on 1 to 6 ranks, in several layouts, with xtb and with an ASI library."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.io import read
from asi_library.build import SPECIES_DIR
from cli_runs import journal, label_files, labelled, succeed, summary, write_inputs

from fhi_al.analysis.accounting import commands
from fhi_al.procedures.run import fold
from fhi_al.procedures.state import State
from fhi_al.record.events import Labelled, Opened, Started, Trained
from fhi_al.record.journal import read_journal
from fhi_al.record.outcome import Worker

SMALL = {
    "n_samples": 2,
    "initial_intermediate_epochs": 2,
    "max_initial_epochs": 2,
    "max_set_size": 5,
    "max_MD_steps": 20,
    "uncertainty_warmup": 2,
    "max_epochs_worker": 1,
    "converge_al": False,
}


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, toy_asi) -> Callable[..., Path]:
    """Runs a small job: `small_run(engine, ranks, **PARALLEL)`; the same job only once."""
    done: dict[tuple[Any, ...], Path] = {}

    def run(engine: str, ranks: int | None, **parallel: Any) -> Path:
        job = (engine, ranks, *sorted(parallel.items()))
        if job not in done:
            reference: dict[str, Any] = {"engine": engine}
            control = None
            if engine == "asi":
                reference |= {"library": str(toy_asi), "species_dir": str(SPECIES_DIR)}
                control = "xc pbe\nrelativistic none\n"
            al = {"ACTIVE_LEARNING": SMALL, "REFERENCE": reference, "PARALLEL": parallel}
            folder = tmp_path_factory.mktemp("small") / "run"
            succeed("FHI_AL", write_inputs(folder, al=al, control=control), ranks)
            done[job] = folder
        return done[job]

    return run


def state(folder: Path) -> State:
    found = fold(journal(folder))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("engine", "ranks", "parallel"),
    [
        # xtb on two and three ranks: test_whole_runs.py. Each group has one rank, as the run
        # alone: with more, a library adds up in another order.
        ("asi", 2, {}),
        ("asi", 4, {"reference_groups": 3}),
        ("asi", 6, {"ml_ranks": 2, "reference_groups": 4}),
    ],
)
def test_same_labels_whatever_the_layout(small_run, engine, ranks, parallel):
    alone = small_run(engine, None, asynchronous=False)
    folder = small_run(engine, ranks, asynchronous=False, **parallel)
    assert state(folder).books.entries == state(alone).books.entries
    assert len(labelled(folder)) > 6
    for name in ("train", "valid"):
        ours, theirs = (read(run / "data" / f"{name}.xyz", ":") for run in (folder, alone))
        assert ours == theirs
        assert [a.info["REF_energy"] for a in ours] == [a.info["REF_energy"] for a in theirs]


@pytest.mark.parametrize(
    ("engine", "ranks", "parallel"),
    [
        ("xtb", 4, {"ml_ranks": 2, "reference_groups": 1}),
        ("asi", 6, {"ml_ranks": 2, "reference_groups": 2}),
    ],
)
def test_every_rank_has_its_part(small_run, engine, ranks, parallel):
    folder = small_run(engine, ranks, **parallel)
    events = journal(folder)

    # Each label is bought once, by one group, and is in one set.
    keys = labelled(folder)
    assert len(keys) == len(set(keys))
    assert sorted(keys) == sorted(path.stem for path in label_files(folder))
    assert sorted(entry.key for entry in state(folder).books.entries) == sorted(keys)
    by = {event.effect: event.worker for event in events if isinstance(event, Started)}
    for event in events:
        if isinstance(event, Labelled):
            (work,) = event.work
            assert work.worker == by[event.effect]
            assert work.began <= work.began + work.busy <= work.ended + 1e-3
        elif isinstance(event, Trained):
            assert {work.worker for work in event.work} == {Worker("ML", 0), Worker("ML", 1)}
    groups = {Worker("reference", number) for number in range(parallel["reference_groups"])}
    assert {by[event.effect] for event in events if isinstance(event, Labelled)} == groups

    # Where each rank is and what it did follows from the journal, and the user is told.
    (opened,) = (event for event in events if isinstance(event, Opened))
    assert [place.workers for place in opened.places[:3]] == [
        (Worker("ML", 0),),
        (Worker("ML", 1),),
        (Worker("reference", 0),),
    ]
    assert len(opened.places) == ranks
    assert opened.startup_s > 0
    (command,) = commands(read_journal(folder / "restart" / "journal.jsonl")[0])
    for worker in (Worker("ML", 0), Worker("ML", 1), *groups):
        spans = sorted((span.began, span.ended) for span in command.spans if span.worker == worker)
        assert all(a[1] <= b[0] + 1e-3 for a, b in itertools.pairwise(spans)), worker
        assert command.opened - 0.1 < spans[0][0]
        assert spans[-1][1] < command.ended + 0.1
    roles = {use["role"]: use for use in summary(folder)["roles"]}
    seconds = command.ended - command.began
    assert roles["ML"]["rank_seconds"] == pytest.approx(2 * seconds)
    for role in ("ML", "reference"):
        use = roles[role]
        together = sum(use["busy"].values()) + sum(use["waiting"].values())
        assert together == pytest.approx(use["rank_seconds"], rel=0.01)
    assert roles["reference"]["waiting"]["training"] > 0
    log = (folder / "initial_dataset.log").read_text()
    text = (folder / "results" / "summary.txt").read_text()
    assert log.count("controller, ML") == 1
    if engine == "xtb":
        # Its second rank has nothing to do in a group.
        assert log.count("idle") == 1
        assert roles["idle"]["rank_seconds"] == pytest.approx(seconds)
    else:
        assert "2-3" in log
        assert "4-5" in log
        assert "idle" not in roles
    assert "How the ranks spent their time" in text
