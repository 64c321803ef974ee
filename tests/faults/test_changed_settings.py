"""What may change between two commands of a run is taken over; the rest is refused, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_runs import Running, count, journal, write_inputs
from fault_runs import wait_until

from fhi_al.errors import InputError
from fhi_al.record.events import Advanced, Event
from fhi_al.record.journal import Journal
from fhi_al.record.outcome import Worker
from fhi_al.run.controller import Controller
from fhi_al.run.opening import Joined, join_run
from fhi_al.settings import load_inputs
from fhi_al.workers.channels import InlineChannel
from fhi_al.workers.simulated import SimulatedWorker


def join(
    folder: Path, digest: str = "digest", geometry: str | None = None, **changes: Any
) -> Joined:
    """Join the run in a folder with these settings; the geometry is water's if not given."""
    more = {} if geometry is None else {"geometry": geometry}
    mace = {name: changes.pop(name) for name in ("ARCHITECTURE", "TRAINING") if name in changes}
    write_inputs(folder, al=changes, mace=mace, **more)
    journal = Journal(folder / "restart" / "journal.jsonl")
    return join_run(journal, "run", load_inputs(folder), digest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in active learning, of which nothing is real but the journal."""
    folder = tmp_path / "run"
    joined = join(folder)
    journal = Journal(folder / "restart" / "journal.jsonl")
    journal.append(joined.opened)
    simulated = SimulatedWorker(joined.state.rules)
    channels = [
        InlineChannel(Worker("reference", 0), simulated),
        InlineChannel(Worker("ML", 0), simulated),
    ]
    begun: list[Event] = []

    def stop() -> str | None:
        begun.extend(
            event
            for event in [controller.state.stages.get("active_learning")]
            if event and event.file
        )
        return "enough" if begun else None

    controller = Controller(joined.state, journal, channels, stop=stop)
    with pytest.raises(Exception, match="enough"):
        controller.run()
    return folder


def test_the_same_settings_are_no_change(folder: Path) -> None:
    joined = join(folder)
    assert joined.changes == ()
    assert joined.state.stage == "active_learning"


def test_what_may_change_is_told(folder: Path) -> None:
    joined = join(
        folder,
        ACTIVE_LEARNING={"max_set_size": 99, "num_trajectories": 4},
        PARALLEL={"asynchronous": False},
        MISC={"deterministic": True},
    )
    assert "ACTIVE_LEARNING.max_set_size was 13, is 99" in joined.changes
    assert "ACTIVE_LEARNING.num_trajectories was 2, is 4" in joined.changes
    assert "PARALLEL.asynchronous was True, is False" in joined.changes
    assert len(joined.changes) == 4
    assert joined.state.stages["active_learning"]
    assert len(joined.state.stages["active_learning"].walkers) == 4
    assert joined.state.stages["active_learning"].walkers[3].step == 0


def test_a_trajectory_at_its_end_goes_on_when_the_end_is_moved(folder: Path) -> None:
    joined = join(folder, ACTIVE_LEARNING={"max_MD_steps": 1})
    assert joined.state.stages["active_learning"]
    statuses = {walker.status for walker in joined.state.stages["active_learning"].walkers}
    assert "running" not in statuses
    joined = join(folder, ACTIVE_LEARNING={"max_MD_steps": 1000})
    assert joined.state.stages["active_learning"]
    assert "finished" not in {
        walker.status for walker in joined.state.stages["active_learning"].walkers
    }


def test_what_may_not_change_is_refused_at_once(folder: Path) -> None:
    with pytest.raises(InputError) as error:
        join(
            folder,
            digest="other",
            geometry="atom 0 0 0 O\natom 0 0.76 -0.47 H\n",
            ACTIVE_LEARNING={"ensemble_size": 3, "num_trajectories": 1},
            ARCHITECTURE={"num_channels": 4},
            TRAINING={"optimizer": "adamw", "lr": 0.5},
        )
    text = str(error.value)
    for part in (
        "the reference engine's digest was digest, is other",
        "the number of atoms was 3, is 2",
        "geometries was",
        "ACTIVE_LEARNING.ensemble_size was 2, is 3",
        "ACTIVE_LEARNING.num_trajectories was 2, is 1",
        "ARCHITECTURE.num_channels was 8, is 4",
        "TRAINING.optimizer was adam, is adamw",
    ):
        assert part in text
    assert "TRAINING.lr" not in text
    assert len(Journal(folder / "restart" / "journal.jsonl").records) > 0


def test_a_folder_may_be_moved(folder: Path, tmp_path: Path) -> None:
    assert join(folder.rename(tmp_path / "elsewhere")).changes == ()


def advanced(folder: Path) -> list[Advanced]:
    return [event for event in journal(folder) if isinstance(event, Advanced)]


def test_trajectories_that_were_added_are_run(start: Any, tmp_path: Path) -> None:
    long = {"max_set_size": 500, "max_MD_steps": 2000, "max_epochs_worker": 1}
    folder = write_inputs(tmp_path / "run", al={"ACTIVE_LEARNING": long})
    running: Running = start("FHI_AL", folder)
    wait_until(running, lambda: count(folder, Advanced) > 3)
    running.kill()
    assert all(set(event.trajectories) <= {0, 1} for event in advanced(folder))
    write_inputs(folder, al={"ACTIVE_LEARNING": {**long, "num_trajectories": 4}})
    running = start("FHI_AL", folder)
    wait_until(running, lambda: any(3 in event.trajectories for event in advanced(folder)))
    text = (folder / "AL.log").read_text()
    assert "last command: ACTIVE_LEARNING.num_trajectories was 2, is 4" in text
