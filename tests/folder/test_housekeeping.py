"""Files that events have superseded go; what a restart needs, or is asked to be kept, stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from fhi_al.atoms.structure import Structure
from fhi_al.folder.artefacts import needed_walkers
from fhi_al.folder.housekeeping import Housekeeper
from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.active_learning import ACTIVE_LEARNING
from fhi_al.procedures.run import step
from fhi_al.procedures.state import State
from fhi_al.record.events import (
    Advanced,
    Candidate,
    Event,
    Labelled,
    MemberState,
    Opened,
    Sampled,
    Selected,
    Trained,
)
from fhi_al.settings import load_inputs
from fhi_al.workers.simulated import simulated_rules

WATER = "atom 0 0 0.119 O\natom 0 0.763 -0.477 H\natom 0 -0.763 -0.477 H\n"
MEMBER = MemberState(1, 0.1, 0.1, None, None, None, 0.1, 0, 1, 1)
AIMD = simulated_rules(initial_method="aimd")
OPENED = Opened("run", simulated_rules().to_json(), "", "0", 3, ("H",), "host", 0.0, run="mine")

Make = Callable[..., RunFolder]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(keep: int = 0, run: str = "mine") -> RunFolder:
        mace = {"MISC": {"device": "cpu", "keep_checkpoints": keep}}
        (tmp_path / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
        al = {"REFERENCE": {"engine": "xtb"}}
        (tmp_path / "active_learning_settings.yaml").write_text(yaml.safe_dump(al))
        (tmp_path / "geometry.in").write_text(WATER)
        return RunFolder(load_inputs(tmp_path), "digest", run)

    return make


def trained(number: int) -> Trained:
    name = f"train-{number}"
    return Trained(name, name, (MEMBER, MEMBER), (0, 1), 1, 1, (), 1.0)


def advanced(number: int) -> Advanced:
    name = f"advance-{number}"
    return Advanced(name, name, (0,), (10,), (), (), 1.0, "eager")


def sampled(name: str, geometry: int = 0) -> Sampled:
    return Sampled(name, name, (name,), 1.0, geometry=geometry)


def write(folder: RunFolder, event: Event) -> None:
    """The files that an event names."""
    paths: list[Path] = []
    if isinstance(event, Trained):
        paths += [folder.checkpoint(event.weights, member) for member in range(2)]
    elif isinstance(event, Advanced | Sampled) and event.walkers is not None:
        paths.append(folder.walkers(event.walkers))
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def happen(folder: RunFolder, events: Sequence[Event], past: Sequence[Event] = ()) -> State:
    """Go on from a past."""
    state = step(None, OPENED)
    for event in past:
        state = step(state, event)
    keep = Housekeeper(folder, past)
    for event in events:
        write(folder, event)
        state = step(state, event)
        keep(state, event)
    return state


def there(folder: RunFolder) -> set[Path]:
    """The checkpoints and walkers that are there."""
    return {
        path
        for kept in (folder.walkers(""), folder.checkpoint("", 0))
        for path in kept.parent.glob("*")
    }


def files(folder: RunFolder, walkers: str, weights: str = "") -> set[Path]:
    """The files of these names."""
    return {folder.walkers(name) for name in walkers.split()} | {
        folder.checkpoint(name, member) for name in weights.split() for member in range(2)
    }


RUN = [event for number in range(5) for event in (advanced(number), trained(number))]


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
@pytest.mark.parametrize("restarts", [False, True])
def test_every_kth_checkpoint_stays_with_its_walkers(make: Make, keep: int, restarts: bool) -> None:
    folder = make(keep)
    if restarts:
        for index, event in enumerate(RUN):
            happen(folder, [event], RUN[:index])
    else:
        happen(folder, RUN)
    stay = [number for number in range(5) if number == 4 or (keep and number % keep == 0)]
    assert there(folder) == files(
        folder,
        " ".join(f"advance-{number}" for number in stay),
        " ".join(f"train-{number}" for number in stay),
    )


def test_walkers_are_superseded_by_those_that_go_on_from_them(make: Make) -> None:
    folder = make()
    happen(folder, [sampled("md-3"), sampled("md1-3", 1), sampled("md-4"), sampled("md1-4", 1)])
    assert there(folder) == files(folder, "md-4 md1-4")


def test_the_last_walkers_of_the_sampling_stay_to_be_gone_back_to(make: Make) -> None:
    folder = make()
    happen(folder, [sampled("sample-3"), sampled("sample-4"), trained(1), advanced(1), advanced(2)])
    assert there(folder) == files(folder, "sample-4 advance-2", "train-1")


def test_what_the_state_needs_stays_whatever_comes_later(make: Make) -> None:
    """The structures are sampled in another way than before."""
    folder = make()
    before = [sampled("sample-3"), replace(OPENED, settings=AIMD.to_json())]
    state = happen(folder, [*before, sampled("md-0"), sampled("md-1")])
    assert set(needed_walkers(state)) == {"sample-3", "md-1"}
    assert there(folder) == files(folder, "sample-3 md-1")


def test_what_was_kept_goes_when_it_need_not_be_any_more(make: Make) -> None:
    happen(make(keep=1), RUN)
    folder = make(keep=0)
    happen(folder, [advanced(5), trained(5)], RUN)
    assert there(folder) == files(folder, "advance-5", "train-5")


def test_the_files_of_another_run_are_left_alone(make: Make) -> None:
    other = make(run="other")
    happen(other, RUN)
    folder = make()
    happen(folder, RUN)
    both = ("advance-4", "train-4")
    assert there(folder) == files(folder, *both) | files(other, *both)


def test_a_label_holds_its_structure(make: Make) -> None:
    folder = make()
    key = folder.structures.put(Structure(np.array([2]), np.zeros((1, 3))), "digest")
    assert folder.structures.has(key)
    happen(folder, [Labelled(f"label-{key}", key, -1.0, 1.0)])
    assert not folder.structures.has(key)


def test_structures_that_left_the_pool_go_unless_a_walker_waits_for_them(make: Make) -> None:
    folder = make()
    stays, chosen, dropped, awaited = keys = [
        folder.structures.put(Structure(np.array([z]), np.zeros((1, 3))), "digest")
        for z in (1, 2, 3, 4)
    ]
    state = step(None, OPENED)
    state.stage, state.books.weights = ACTIVE_LEARNING.name, "train-0"
    state.stages[ACTIVE_LEARNING.name] = ACTIVE_LEARNING.begin(state)
    keep = Housekeeper(folder)
    found = [Candidate(0, 5, key, 0.1, None, "pool") for key in keys]
    found.append(Candidate(1, 5, awaited, 0.1, None, "unstable"))
    gone = ((dropped, "like another"), (awaited, "like another"))
    for event in (
        Advanced("a", "a", (0, 1), (5, 5), (), tuple(found), 0.0, "eager"),
        Selected("select-0", "train-0", ((stays, 0.1), (chosen, 0.2)), gone, (chosen,), 0.0),
    ):
        state = step(state, event)
        keep(state, event)
    assert [folder.structures.has(key) for key in keys] == [True, True, False, True]
