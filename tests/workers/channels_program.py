"""Run by test_channels.py with mpirun: a controller and two groups, the second of two ranks."""

from __future__ import annotations

import os
import sys
import time

from mpi4py import MPI

from fhi_al.handlers.worker import Slices
from fhi_al.mpi.messages import Patience, gather, share
from fhi_al.record.effects import Calculate
from fhi_al.record.events import Labelled
from fhi_al.record.outcome import Worker
from fhi_al.workers.channels import MpiChannel
from fhi_al.workers.serve import describe_failure, failures, report_failure, serve


class Slow:
    """Answers after a while."""

    def run(self, effect: Calculate) -> Slices:
        for _ in range(3):
            time.sleep(0.01)
            yield
        if effect.key == "break":
            raise RuntimeError("as asked")
        return Labelled(effect.id, effect.key, float(MPI.COMM_WORLD.rank), 0.03)

    def hurry(self) -> None: ...

    def close(self) -> None:
        print(f"rank {MPI.COMM_WORLD.rank} closed", flush=True)


def control(comm: MPI.Comm) -> None:
    channels = [
        MpiChannel(Worker("reference", rank - 1), comm, rank, depth=2)
        for rank in range(1, comm.size)
    ]
    waiting = [Calculate(f"label-{i}", f"{i}", "initial") for i in range(20)]
    seen: dict[str, float] = {}
    patience = Patience()
    while len(seen) < 20:
        for channel in channels:
            while channel.free_slots and waiting:
                channel.submit(waiting.pop())
            assert 0 <= channel.free_slots <= 2
            for event in channel.poll():
                assert isinstance(event, Labelled)
                assert event.key not in seen
                seen[event.key] = event.energy
                assert [work.worker for work in event.work] == [channel.worker]
        patience.wait()
    for channel in channels:
        channel.close()
    print("workers:", sorted(set(seen.values())), flush=True)


def idle(comm: MPI.Comm) -> None:
    """All ranks but 0 wait for a second; how much processor time do they take?"""
    if comm.rank == 0:
        time.sleep(2.0)
    before = time.process_time()
    share(comm, "done")
    used = gather(comm, time.process_time() - before)
    if comm.rank == 0:
        print("idle share:", sum(used[1:]) / 2.0, flush=True)


def fail(comm: MPI.Comm) -> None:
    if comm.rank == 0:
        channel = MpiChannel(Worker("reference", 0), comm, 1, depth=2)
        channel.submit(Calculate("label-break", "break", "initial"))
        patience = Patience()
        while not (events := failures(comm)):
            patience.wait()
        (failed,) = events
        print(failed.rank, failed.error, "as asked" in failed.traceback, flush=True)
        comm.Abort(3)
    try:
        serve(comm, Worker("reference", 0), Slow(), lambda: None)
    except RuntimeError as error:
        report_failure(comm, describe_failure(comm.rank, error))


def main() -> None:
    comm = MPI.COMM_WORLD
    if sys.argv[1] == "idle":
        idle(comm)
    elif sys.argv[1] == "fail":
        fail(comm)
    elif sys.argv[1] == "orphan":
        # The controller is gone: the broken rank must end the job by itself.
        if comm.rank == 0:
            time.sleep(60)
        report_failure(comm, describe_failure(comm.rank, RuntimeError("x")))
    elif comm.rank == 0:
        control(comm)
    else:
        serve(comm, Worker("reference", comm.rank - 1), Slow(), lambda: None)
    assert gather(comm, comm.rank) == list(range(comm.size))
    assert share(comm, {"from": comm.rank}) == {"from": 0}
    sys.stdout.flush()
    if "OMPI_COMM_WORLD_SIZE" not in os.environ:
        raise AssertionError("not started by mpirun")


if __name__ == "__main__":
    main()
