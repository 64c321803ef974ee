"""What a forecast goes by: durations, sizes of the work, and the split of the ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fhi_al.record.events import Entry


@dataclass(frozen=True)
class Rates:
    """How fast the models work, on one ML rank.

    Attributes:
        md_overhead_s: of each piece of molecular dynamics.
        md_step_s: of an MD step with all members, however many walkers there are.
        md_walker_s: of an MD step with all members, for each walker in addition.
        train_overhead_s: of each piece of training: data, checkpoint, one validation.
        train_step_s: of an optimizer step of one member, with a full batch.
        valid_step_s: of the validation of one member on a full batch.
    """

    md_overhead_s: float
    md_step_s: float
    md_walker_s: float
    train_overhead_s: float
    train_step_s: float
    valid_step_s: float

    def times(self, factor: float) -> Rates:
        """All steps by this factor slower; overheads stay."""
        return replace(
            self,
            md_step_s=factor * self.md_step_s,
            md_walker_s=factor * self.md_walker_s,
            train_step_s=factor * self.train_step_s,
        )


@dataclass(frozen=True)
class Costs:
    """Durations that a forecast goes by, in seconds.

    Attributes:
        label_s: a calculation of the reference, on a group of `label_ranks` ranks.
        label_ranks: ranks of that group.
        parallel_engine: whether more ranks make a calculation faster (ideally: in proportion).
        eager: rates from the start.
        compiled: rates once code is compiled, or None: it stays eager.
        compiled_after_s: seconds of each kind of work before that.
        sample_step_s: an MD step of a pretrained model that samples the initial structures.
    """

    label_s: float
    label_ranks: int
    parallel_engine: bool
    eager: Rates
    compiled: Rates | None
    compiled_after_s: float
    sample_step_s: float

    def label_on(self, ranks: int) -> float:
        """A calculation on a group of this many ranks."""
        return self.label_s * (self.label_ranks / ranks if self.parallel_engine else 1.0)


@dataclass(frozen=True)
class WorkSizes:
    """What else of the settings decides how long things take.

    Attributes:
        batch_size: structures of an optimizer step.
        valid_batch_size: structures of a step of validation.
        eval_interval: epochs between two validations.
        eval_interval_converging: likewise in a convergence.
        isolated: calculations of isolated atoms.
        entries: labels that the user brings.
        weights: whether the user brings models, too.
    """

    batch_size: int
    valid_batch_size: int
    eval_interval: int
    eval_interval_converging: int
    isolated: int
    entries: tuple[Entry, ...] = ()
    weights: bool = False


@dataclass(frozen=True)
class RankSplit:
    """Ranks by role.

    Attributes:
        ml: ML ranks; 0 where a single rank does everything.
        groups: ranks of each reference group.
    """

    ml: int
    groups: tuple[int, ...]

    @property
    def alone(self) -> bool:
        """Whether one rank does everything."""
        return self.ml == 0

    @property
    def ranks(self) -> int:
        """In all."""
        return self.ml + sum(self.groups)
