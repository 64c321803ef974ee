"""Whatever is killed, and when: the same command goes on, and nothing is lost or bought twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ase.io import read
from cli_runs import Running, labelled, succeed, write_inputs
from fault_runs import TROUBLE, calls, logged_run, wait_until
from kills import kill_runs

Start = Callable[..., Running]
# All stages, each short.
SHORT = {
    "max_initial_epochs": 10,
    "initial_intermediate_epochs": 5,
    "max_set_size": 12,
    "max_final_epochs": 12,
}
MACE = {"ARCHITECTURE": {"atomic_energies": "auto"}}
CONTROL = "xc pbe\nrelativistic none\ntoy_call_log {log}\n"


def xtb_run(folder: Path, deterministic: bool) -> Path:
    return logged_run(folder, ACTIVE_LEARNING=SHORT, MISC={"deterministic": deterministic})


def asi_run(folder: Path, library: Path, deterministic: bool) -> Path:
    reference = {"engine": "asi", "library": str(library), "species_dir": str(SPECIES)}
    al = {
        "ACTIVE_LEARNING": SHORT,
        "REFERENCE": reference,
        "MISC": {"deterministic": deterministic},
    }
    control = CONTROL.format(log=folder / "calls.txt")
    return write_inputs(folder, mace=MACE, al=al, control=control)


SPECIES = Path(__file__).parents[1] / "asi_library" / "species"


def datasets(folder: Path) -> list[tuple[str, float]]:
    """Members of the datasets, in order: keys and energies."""
    return [
        (atoms.info["fhi_al_key"], atoms.info["REF_energy"])
        for name in ("train", "valid")
        for atoms in read(folder / "data" / f"{name}.xyz", ":")
    ]


def complete(folder: Path) -> None:
    """Every label but those of the isolated atoms is in one dataset."""
    keys = [key for key, _ in datasets(folder)]
    assert len(set(keys)) == len(keys)
    assert set(keys) <= set(labelled(folder))
    assert len(keys) >= SHORT["max_set_size"]


def kill_xtb(start: Start, tmp_path: Path, seed: int, kills: int) -> None:
    """One rank, deterministic: the datasets are those of a run that nobody disturbed."""
    whole = xtb_run(tmp_path / "whole", deterministic=True)
    succeed("FHI_AL", whole)

    def check(folder: Path) -> None:
        complete(folder)
        # The keys differ: the engine's arguments, which they know, name the folder.
        assert [e for _, e in datasets(folder)] == [e for _, e in datasets(whole)]

    def make(number: int) -> Path:
        return xtb_run(tmp_path / f"run{number}", deterministic=True)

    totals = kill_runs(start, seed, None, kills, make, check)
    # Here each call that was cut off is made again: nothing else is.
    assert totals.repeated == totals.in_work


def kill_asi(
    start: Start, tmp_path: Path, library: Path, seed: int, kills: int, deterministic: bool
) -> None:
    """Three ranks, two of them in one library."""

    def make(number: int) -> Path:
        return asi_run(tmp_path / f"run{number}", library, deterministic)

    kill_runs(start, seed, 3, kills, make, complete)


@pytest.mark.slow
def test_one_rank_is_killed_again_and_again(start: Start, tmp_path: Path) -> None:
    kill_xtb(start, tmp_path, seed=1, kills=32)


@pytest.mark.slow
def test_three_ranks_are_killed_again_and_again(
    start: Start, tmp_path: Path, toy_asi: Path
) -> None:
    kill_asi(start, tmp_path, toy_asi, seed=2, kills=28, deterministic=False)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
def test_a_thousand_kills(start: Start, tmp_path: Path, toy_asi: Path, seed: int) -> None:
    kill_xtb(start, tmp_path / "xtb", seed, 50)
    kill_asi(start, tmp_path / "asi", toy_asi, seed, 50, deterministic=bool(seed % 2))


def test_a_label_whose_job_is_killed_again_and_again_still_lands(
    start: Start, tmp_path: Path
) -> None:
    """It was in work, that is all."""
    folder = logged_run(tmp_path / "run", ACTIVE_LEARNING=SHORT, MISC={"deterministic": True})
    (folder / TROUBLE).write_text("stuck")
    gate = (folder / TROUBLE).with_suffix(".gate")
    os.mkfifo(gate)
    for kill in range(4):
        running = start("FHI_AL-initial-ds", folder, None)
        wait_until(running, lambda kill=kill: calls(folder).total() == 3 + kill)
        running.kill()
    (folder / TROUBLE).unlink()
    succeed("FHI_AL-initial-ds", folder)
    (stuck,) = (call for call, times in calls(folder).items() if times > 1)
    assert calls(folder)[stuck] == 5
    assert len(labelled(folder)) == len(calls(folder))
