"""A command on all ranks, from MPI's world to the exit code, and its errors in words."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from fhi_al.errors import FhiAlError, InputError
from fhi_al.monitor.narrator import start_logging, start_worker_logging
from fhi_al.mpi.world import abort, world
from fhi_al.record.hush import hush_warnings
from fhi_al.run.closing import tell_problems
from fhi_al.run.controller import WorkerError
from fhi_al.workers.serve import describe_failure, report_failure

log = logging.getLogger(__name__)


def on_all_ranks(work: Callable[[Any], int], keep: Callable[[str], str]) -> int:
    """Do a command's work. Collective over all ranks; one that fails by accident ends them all.

    Args:
        work: with the communicator of all ranks (None: there is one); returns the exit code. What
            it raises by design it raises on all ranks.
        keep: puts a traceback where the user finds it; returns what to say of it.

    Returns:
        The exit code of this rank.
    """
    hush_warnings()
    logging.getLogger().addHandler(logging.NullHandler())
    comm = None
    try:
        comm = world()
        if comm is None or comm.rank == 0:
            start_logging("INFO")  # until the settings are known
        else:
            start_worker_logging(comm.rank)
        return work(comm)
    except InputError as error:
        if comm is None or comm.rank == 0:
            tell_problems(error)
        return error.exit_code
    except FhiAlError as error:
        if comm is None or comm.rank == 0:
            log.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("stopped")
    except WorkerError as error:
        failed = error.failed
        details = f" (details: {keep(failed.traceback)})" if failed.traceback else ""
        log.error("rank %d on %s: %s%s", failed.rank, failed.host, failed.error, details)
    except Exception as error:
        if comm is not None and comm.rank != 0:
            report_failure(comm, describe_failure(comm.rank, error))
        where = keep(traceback.format_exc())
        log.error("internal error: %s: %s (details: %s)", type(error).__name__, error, where)
    if comm is not None and comm.size > 1:
        abort(comm, 1)
    return 1
