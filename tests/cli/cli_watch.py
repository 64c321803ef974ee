"""Looks at the ranks of a command from outside."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cli_runs import Running


@dataclass
class Use:
    """What a rank has used so far.

    Attributes:
        peak_mb: memory.
        torch: whether it has loaded torch's library.
    """

    peak_mb: float = 0.0
    torch: bool = False


def watch(running: Running) -> dict[int, Use]:
    """Look at the ranks from outside, by number, until the command ends."""
    seen: dict[int, Use] = {}
    while running.alive():
        for pid in running.pids():
            try:
                _look(Path(f"/proc/{pid}"), seen)
            except (OSError, KeyError):
                continue  # it is starting or ending
        time.sleep(0.1)
    return seen


def _look(process: Path, seen: dict[int, Use]) -> None:
    environment = (process / "environ").read_bytes().split(b"\0")
    rank = int(
        next(v for v in environment if v.startswith(b"OMPI_COMM_WORLD_RANK=")).split(b"=")[1]
    )
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    use = seen.setdefault(rank, Use())
    use.peak_mb = max(use.peak_mb, int(status["VmHWM"].split()[0]) * 1024 / 1000**2)
    use.torch = use.torch or "libtorch" in (process / "maps").read_text()
