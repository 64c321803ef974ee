"""What a process knows of its launcher."""

from __future__ import annotations

import os

import pytest

from fhi_al.errors import InputError
from fhi_al.mpi import world
from fhi_al.run.closing import command_line


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (*world._LAUNCHED, *world._SIZES, "PMIX_NAMESPACE", "SLURM_CPUS_ON_NODE")
    for name in (*names, "OMPI_COMM_WORLD_RANK", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_alone() -> None:
    assert world.world() is None


def test_srun_without_mpi_is_refused(monkeypatch):
    """Each process would take itself for the only one, and the first would compute alone."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    with pytest.raises(InputError, match=r"started 3 processes .*srun --mpi=pmix"):
        world.world()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert world.world() is None


def test_how_to_go_on(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/some/bin/FHI_AL", "--directory", "my run"])
    assert command_line(1) == "FHI_AL --directory 'my run'"
    monkeypatch.setenv("PMIX_NAMESPACE", "prterun-node001-4711@1")
    assert command_line(3) == "mpirun -n 3 FHI_AL --directory 'my run'"
    monkeypatch.setenv("PMIX_NAMESPACE", "slurm.pmix.12.0")
    assert command_line(3) == "srun --mpi=pmix -n 3 FHI_AL --directory 'my run'"


@pytest.mark.parametrize(("granted", "threads"), [(None, 8), ("2", 2), ("16", 8)])
def test_no_more_threads_than_slurm_grants(monkeypatch, granted, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    if granted:
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", granted)
    assert world.claim_threads(None) == threads
