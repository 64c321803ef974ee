"""The MPI world, if there is one, and this process's share of the machine."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import sys
from typing import Any, NoReturn

from fhi_al.errors import InputError

# Set by the launchers of Open MPI, MPICH and Intel MPI, and by srun with PMIx or PMI.
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID")

# How many processes the launcher has started: Open MPI, MPICH and Intel MPI, srun.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")

_PR_SET_PDEATHSIG = 1


def launched() -> bool:
    """Whether an MPI launcher has started this process."""
    return any(name in os.environ for name in _LAUNCHED)


def launcher() -> str:
    """The command that starts several ranks where this process was started."""
    # So does Slurm's own PMIx server name its jobs.
    in_slurm = os.environ.get("PMIX_NAMESPACE", "").startswith("slurm.")
    return "srun --mpi=pmix" if in_slurm else "mpirun"


def world() -> Any:
    """The communicator of all ranks; None for a process that no launcher started.

    Raises:
        InputError: a launcher started this process and others, but there is no MPI library, or it
            doesn't find them.
    """
    if os.environ.get("OMPI_COMM_WORLD_RANK") != "0" or os.environ["OMPI_COMM_WORLD_SIZE"] == "1":
        # Have Open MPI say where MPI_Abort was called, which `reference.black_box` looks for; not
        # where only the controller could call it.
        os.environ.setdefault("OMPI_MCA_mpi_abort_print_stack", "1")
    started = _n_started()
    if not launched():
        if started > 1:
            raise InputError(
                f"srun has started {started} processes that don't know of each other: write "
                "`srun --mpi=pmix` (`srun --mpi=list` says what this Slurm has), or use mpirun"
            )
        return None
    _end_with_launcher()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"this is an MPI job, but mpi4py can't load an MPI library ({error}); load the MPI "
            "module of your site, or install one with `pip install fhi_al[mpi]`"
        ) from error
    found = MPI.COMM_WORLD.size
    if found < started:
        # Each process would take itself for the only one.
        raise InputError(
            f"the launcher has started {started} processes, but MPI finds {found}: mpi4py uses the "
            "library of another MPI than this launcher's (the two must be of one installation), or "
            "the launcher is gone"
        )
    return MPI.COMM_WORLD


def _n_started() -> int:
    """How many processes the launcher says it has started; 1 where it says nothing."""
    sizes = (os.environ.get(name, "") for name in _SIZES)
    return next((int(size) for size in sizes if size.isdigit()), 1)


def _end_with_launcher() -> None:
    """Have the system end this process when its launcher ends, even by SIGKILL.

    A rank that outlived its job would go on writing to the journal, next to the one of the job that
    the user starts in its place. Linux only.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return
    parent = os.getppid()
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before; then the parent is another process already.
    if os.getppid() != parent or not _launcher_lives():
        os._exit(1)


def _launcher_lives() -> bool:
    """Whether Open MPI's mpirun is still there, where it runs on this node."""
    namespace = re.fullmatch(r"\w+?-(.+)-(\d+)@\d+", os.environ.get("PMIX_NAMESPACE", ""))
    if namespace is None or namespace[1] != os.environ.get("PMIX_HOSTNAME"):
        return True
    try:
        os.kill(int(namespace[2]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def abort(comm: Any, code: int) -> NoReturn:
    """End all ranks now, wherever they are, with this exit code.

    Args:
        comm: of all ranks, or None.
        code: that the launcher is to return.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if comm is not None and comm.size > 1:
        comm.Abort(code)
    os._exit(code)


def alone_for_ase() -> None:
    """Make ASE see a world of one process.

    ASE's file and MD functions are collective over COMM_WORLD once mpi4py is imported; called
    in one role only, they would wait for ever.
    """
    import ase.parallel

    ase.parallel.world.comm = ase.parallel.DummyMPI()


def claim_threads(comm: Any) -> int:
    """Set the number of threads from the cores that this rank has for itself.

    A number that the user has set, OMP_NUM_THREADS, goes before.

    Args:
        comm: of all ranks, or None.

    Returns:
        The number of threads.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    cores = len(os.sched_getaffinity(0))
    granted = os.environ.get("SLURM_CPUS_ON_NODE", "")
    if granted.isdigit() and int(granted) > 0:
        # Not every Slurm binds processes to the cores of their job.
        cores = min(cores, int(granted))
    if comm is not None:
        from mpi4py import MPI

        local = comm.Split_type(MPI.COMM_TYPE_SHARED)
        neighbours = local.allgather(sorted(os.sched_getaffinity(0)))
        local.Free()
        # A launcher that binds gives each rank cores of its own; otherwise they are shared.
        mine = sorted(os.sched_getaffinity(0))
        cores //= sum(other == mine for other in neighbours)
    threads = max(1, cores)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    return threads


def local_rank(comm: Any) -> int:
    """This process's place among those of a communicator that share its node. Collective.

    Args:
        comm: the communicator, or None for a process alone.
    """
    if comm is None:
        return 0
    from mpi4py import MPI

    local = comm.Split_type(MPI.COMM_TYPE_SHARED)
    rank: int = local.rank
    local.Free()
    return rank


def peak_memory_mb() -> float:
    """The most memory that this process has used so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 1000**2 if sys.platform == "darwin" else peak * 1024 / 1000**2
