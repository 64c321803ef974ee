"""What the ranks other than the controller do all day, and the two kinds of worker."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections import deque
from typing import Any

from fhi_al.errors import EngineError, FhiAlError, UnconvergedError
from fhi_al.handlers.worker import EffectRunner, Slices, timed
from fhi_al.mpi.messages import TAG_EFFECT, TAG_EVENT, TAG_FAILED, Look, Patience, send, share, wait
from fhi_al.record.effects import Effect
from fhi_al.record.events import Event, Failed
from fhi_al.record.outcome import Worker
from fhi_al.reference.engine import Labeller
from fhi_al.workers.channels import Dropped, Hurry

_UNANSWERED_S = 8.0


def assist(engine: Labeller, comm: Any, look: Look) -> None:
    """Take part in the group's calculations, on a rank that doesn't lead it, until told to stop.

    Args:
        engine: this rank's part of it.
        comm: of the group.
        look: called between calculations, and while waiting.
    """
    while (structure := share(comm, None, look=look)) is not None:
        try:
            engine.label(structure)
        except UnconvergedError:
            # An outcome, which the leader reports.
            continue
    engine.close()


def serve(comm: Any, worker: Worker, runner: EffectRunner, look: Look) -> None:
    """Carry out the controller's effects on the leader of a group, until told to stop.

    Args:
        comm: with the controller as rank 0.
        worker: that this is.
        runner: does its work.
        look: called between slices of work, and while waiting.
    """
    queue: deque[Effect | Hurry | None] = deque()
    patience = Patience()
    while True:
        look()
        while comm.iprobe(source=0, tag=TAG_EFFECT):
            queue.append(comm.recv(source=0, tag=TAG_EFFECT))
        if Hurry() in queue:
            dropped = queue.index(Hurry())
            send(comm, Dropped(dropped), 0, TAG_EVENT)
            for _ in range(dropped + 1):
                queue.popleft()
        if not queue:
            patience.wait()
            continue
        patience.reset()
        effect = queue.popleft()
        if effect is None:
            runner.close()
            return
        assert not isinstance(effect, Hurry)
        send(comm, _finish(timed(runner.run(effect), worker), look), 0, TAG_EVENT)


def _finish(slices: Slices, look: Look) -> Event:
    while True:
        look()
        try:
            next(slices)
        except StopIteration as end:
            event: Event = end.value
            return event


def describe_failure(rank: int, error: BaseException) -> Failed:
    """The event that tells of an exception on this rank; what users can mend has no traceback.

    That of an engine tells where in the user's calculator, or in ours, it broke down.
    """
    known = isinstance(error, FhiAlError) and not isinstance(error, EngineError)
    return Failed(
        host=socket.gethostname(),
        rank=rank,
        error=str(error) if isinstance(error, FhiAlError) else f"{type(error).__name__}: {error}",
        traceback="" if known else "".join(traceback.format_exception(error)),
    )


def report_failure(comm: Any, failed: Failed) -> None:
    """Tell the controller that this rank is broken, and end with it; never returns.

    The other ranks of the group may sit in a collective call that this rank will not join, so
    the whole job has to end. The controller does that once the journal knows; if it doesn't
    answer, this rank does.
    """
    wait(comm.isend(failed, dest=0, tag=TAG_FAILED))
    time.sleep(_UNANSWERED_S)
    print(f"rank {failed.rank} on {failed.host}: {failed.error}", file=sys.stderr)
    print(failed.traceback, file=sys.stderr, flush=True)
    comm.Abort(1)
    os._exit(1)


def failures(comm: Any) -> list[Failed]:
    """What ranks that broke down, leaders or not, have told the controller since the last call.

    Args:
        comm: of all ranks, or None where there is one.
    """
    if comm is None:
        return []
    from mpi4py import MPI

    found: list[Failed] = []
    while comm.iprobe(source=MPI.ANY_SOURCE, tag=TAG_FAILED):
        found.append(comm.recv(source=MPI.ANY_SOURCE, tag=TAG_FAILED))
    return found
