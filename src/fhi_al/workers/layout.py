"""Which rank does what."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fhi_al.errors import InputError


@dataclass(frozen=True)
class Layout:
    """The split of the world into roles.

    Attributes:
        size: ranks in all.
        ml: ranks of the ML group; rank 0, the controller, is the first.
        groups: ranks of each reference group, the leader first. With a single rank, that rank
            has every role.
    """

    size: int
    ml: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    def group_of(self, rank: int) -> int | None:
        """Number of the reference group of a rank; None for an ML rank among several ranks."""
        for number, group in enumerate(self.groups):
            if rank in group:
                return number
        return None

    def describe(self) -> str:
        """The split in words."""
        if self.size == 1:
            return "one rank for everything"
        sizes = "+".join(str(len(group)) for group in self.groups)
        return f"{self.size} ranks: {len(self.ml)} for ML, {sizes} for the reference"


def visible_gpus() -> int:
    """How many NVIDIA GPUs this node shows, without starting CUDA."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        return len([device for device in shown.split(",") if device.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def plan_layout(
    size: int,
    ml_ranks: int | Literal["auto"] | None,
    reference_groups: int,
    n_gpus: int,
    *,
    parallel_engine: bool = True,
    most_ml: int = 1,
) -> Layout:
    """Split the ranks.

    Args:
        size: ranks in all.
        ml_ranks: as the user set it. None: one for each GPU of the first node, at least one.
            "auto": where there is no GPU, also the ranks that would idle in a reference group.
        reference_groups: as the user set it.
        n_gpus: visible GPUs on the first node.
        parallel_engine: whether the reference uses more than one rank of a group.
        most_ml: ranks that the ML group can use.

    Raises:
        InputError: the ranks don't suffice for what is asked.
    """
    given = ml_ranks if isinstance(ml_ranks, int) else None
    if size == 1:
        problems = [
            f"PARALLEL.{name}: {value} is not possible on one rank; "
            f"start the program with mpirun -n {value + 1} or more"
            for name, value in (("ml_ranks", given or 1), ("reference_groups", reference_groups))
            if value > 1
        ]
        if problems:
            raise InputError(problems)
        return Layout(1, (0,), ((0,),))
    fills = ml_ranks == "auto" and not n_gpus and not parallel_engine
    # Without a number, GPUs beyond the ranks are left alone rather than refused.
    n_ml = given or max(1, min(most_ml if fills else n_gpus, size - reference_groups))
    rest = size - n_ml
    if rest < reference_groups:
        raise InputError(
            f"PARALLEL: {n_ml} ML ranks and {reference_groups} reference groups need at least "
            f"{n_ml + reference_groups} ranks, but there are {size}: start more ranks, or lower "
            "ml_ranks or reference_groups in active_learning_settings.yaml"
        )
    bounds = [n_ml + rest * g // reference_groups for g in range(reference_groups + 1)]
    groups = tuple(tuple(range(a, b)) for a, b in itertools.pairwise(bounds))
    return Layout(size, tuple(range(n_ml)), groups)
