"""The table of ranks."""

from __future__ import annotations

import socket

from fhi_al.record.outcome import Place, Worker
from fhi_al.workers.layout import Layout, plan_layout
from fhi_al.workers.placement import describe_places, place_of


def places(layout: Layout, *, parallel_engine: bool) -> list[Place]:
    return [
        place_of(layout, rank, parallel_engine=parallel_engine, device="cpu", threads=2)
        for rank in range(layout.size)
    ]


def lines(found: list[Place]) -> list[list[str]]:
    """The words of each line below the header."""
    return [line.split() for line in describe_places(found).splitlines()[2:]]


def test_ranks_that_differ_in_nothing_share_a_line() -> None:
    found = places(plan_layout(68, 2, 2, 0), parallel_engine=True)
    host = socket.gethostname()
    assert lines(found) == [
        ["0", host, "controller,", "ML", "cpu", "2"],
        ["1", host, "ML", "cpu", "2"],
        ["2-34", host, "reference", "0", "cpu", "2"],
        ["35-67", host, "reference", "1", "cpu", "2"],
    ]


def test_ranks_that_a_serial_engine_leaves_idle_are_said_to_be() -> None:
    found = places(plan_layout(4, 1, 1, 0), parallel_engine=False)
    assert [place.workers for place in found] == [
        (Worker("ML", 0),),
        (Worker("reference", 0),),
        (),
        (),
    ]
    (idle,) = (line for line in lines(found) if line[0] == "2-3")
    assert idle[2] == "idle"
    assert "2 of these ranks have nothing to do" in describe_places(found)
    busy = places(
        plan_layout(4, "auto", 1, 0, parallel_engine=False, most_ml=4), parallel_engine=False
    )
    assert "nothing to do" not in describe_places(busy)


def test_one_rank_has_all_roles() -> None:
    (place,) = places(plan_layout(1, None, 1, 0), parallel_engine=False)
    assert place.workers == (Worker("ML", 0), Worker("reference", 0))
    assert lines([place])[0][2:5] == ["controller,", "ML,", "reference"]


def test_hosts_and_devices_tell_ranks_apart() -> None:
    ranks = [Place(f"node{i // 2}", (Worker("reference", 0),), "cpu", 1) for i in range(6)]
    assert [line[0] for line in lines(ranks)] == ["0-1", "2-3", "4-5"]
    # Names of nodes are not cut short.
    assert "node2" in describe_places(ranks)
