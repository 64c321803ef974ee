"""Where each rank runs and what it does there, told once at the start."""

from __future__ import annotations

import io
import itertools
import socket
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fhi_al.record.outcome import Place, Worker
from fhi_al.workers.layout import Layout

_WIDTH = 100


def place_of(
    layout: Layout, rank: int, *, parallel_engine: bool, device: str, threads: int
) -> Place:
    """Describe this process's rank.

    Args:
        layout: of all ranks.
        rank: of this process.
        parallel_engine: whether the reference uses all ranks of a group, not only its leader.
        device: where its models or its reference calculations run.
        threads: that it uses.
    """
    workers = []
    if rank in layout.ml:
        workers.append(Worker("ML", rank))
    number = layout.group_of(rank)
    if number is not None and (parallel_engine or rank == layout.groups[number][0]):
        workers.append(Worker("reference", number))
    return Place(socket.gethostname(), tuple(workers), device if workers else "", threads)


def roles(place: Place) -> str:
    """The roles of a rank in words."""
    found: list[str] = []
    if Worker("ML", 0) in place.workers:
        found.append("controller")
    found += [worker.role for worker in place.workers]
    return ", ".join(found) or "idle"


def _group(place: Place) -> str:
    return "".join(str(w.number) for w in place.workers if w.role == "reference")


def describe_places(places: Sequence[Place]) -> str:
    """A table of all ranks, and what could be better; neighbours that are alike share a line.

    Args:
        places: of all ranks, in their order.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("rank", "host", "role", "group", "device", "threads"):
        table.add_column(name, justify="right" if name in ("rank", "threads") else "left")
    rows = [(p.host, roles(p), _group(p), p.device, str(p.threads)) for p in places]
    for row, same in itertools.groupby(enumerate(rows), key=lambda numbered: numbered[1]):
        ranks = [rank for rank, _ in same]
        span = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]}-{ranks[-1]}"
        table.add_row(span, *row)
    text = io.StringIO()
    console = Console(file=text, width=_WIDTH, highlight=False, force_terminal=False)
    console.print(table)
    if idle := sum(not place.workers for place in places):
        console.print(
            f"{idle} of these ranks {'has' if idle == 1 else 'have'} nothing to do, as this "
            "reference uses one rank of a group. Raise PARALLEL.ml_ranks (auto: as many as help) "
            "or reference_groups, or start fewer ranks."
        )
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
