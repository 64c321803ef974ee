"""What a procedure is: stages, one after the other, each with a state of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from fhi_al.procedures.rules import Rules
from fhi_al.procedures.state import Origin, State
from fhi_al.procedures.stop import StopCriterion, Tally, counts, first_reason
from fhi_al.procedures.walkers import WalkerStatus
from fhi_al.record.effects import Effect
from fhi_al.record.events import Event

Own = TypeVar("Own")


@dataclass(frozen=True)
class TrajectoryNow:
    """A trajectory of molecular dynamics, as a stage sees it.

    Attributes:
        number: of it.
        status: `labelling` and `training` are what it waits for.
        step: MD steps that it has made.
        last_step: at which it ends; None: it has no end of its own.
        epochs_left: of training that it waits for.
        system: whose threshold it follows; empty where there is one for all.
    """

    number: int
    status: WalkerStatus
    step: int
    last_step: int | None = None
    epochs_left: int = 0
    system: str = ""


@dataclass(frozen=True)
class ThresholdNow:
    """Above which uncertainty the reference is asked.

    Attributes:
        system: whose threshold it is; empty where all share one.
        value: in eV/Å; None during the warm-up.
        n_estimates: uncertainties so far.
        warmup: how many there must be before there is a threshold.
        factor: that the mean of the latest uncertainties is multiplied by.
        window: how many these are.
    """

    system: str
    value: float | None
    n_estimates: int
    warmup: int
    factor: float
    window: int


class Stage(Generic[Own]):
    """A part of a procedure: what it decides, and what it says of itself.

    A stage keeps nothing: what it knows is in the state, its own part included, which it alone
    changes. The methods that have an answer here are those that few stages need.

    Args:
        name: as events and folders have it.
        title: heading in the log.
        log_file: name of the file that tells of it.
        words: its name in a sentence.
    """

    def __init__(self, name: str, title: str, log_file: str, words: str) -> None:
        self.name = name
        self.title = title
        self.log_file = log_file
        self.words = words

    def own(self, state: State) -> Own:
        """What this stage owns; only where it has begun."""
        own: Own = state.stages[self.name]
        return own

    moves: ClassVar[bool] = False
    """Whether it has trajectories of molecular dynamics."""

    at_most: ClassVar[bool] = False
    """Whether it often ends before any of its numbers is at its limit."""

    # --- what it decides ---------------------------------------------------------------------

    def needed(self, state: State) -> bool:
        """Whether the procedure goes through it."""
        return True

    def begin(self, state: State) -> Own:
        """Make its own part of the state."""
        raise NotImplementedError

    def resume(self, state: State, own: Own) -> None:
        """Go on by rules that a new command has brought."""

    def refusals(self, own: Own, rules: Rules) -> Iterator[str]:
        """What it can't follow of the rules that a new command brings, in words."""
        return iter(())

    def step(self, state: State, own: Own, event: Event) -> None:
        """Take an event, which the books have taken before."""
        raise NotImplementedError

    def wanted(self, state: State, own: Own) -> list[Effect]:
        """What should be running now, the most urgent first."""
        raise NotImplementedError

    def reason(self, own: Own) -> str | None:
        """Why it ends, in words; None while it goes on, or where its end needs no words."""
        return None

    def chosen(self, state: State) -> Iterator[StopCriterion]:
        """The stop criteria that count; those that the rules name."""
        return iter(())

    def first_reason(self, state: State, own: Own) -> str | None:
        """Why it ends now, in words; None: it goes on."""
        return first_reason(self.chosen(state), state, own)

    def settled(self, state: State, own: Own) -> bool:
        """Whether its own work is over, and nothing of it in work."""
        return bool(self.reason(own)) and not self.wanted(state, own) and not state.books.in_flight

    def reopens(self, state: State, own: Own) -> bool:
        """Whether there is work again after its end, as structures are to be tried again."""
        return False

    def delivers(self, state: State) -> bool:
        """Whether models and datasets are measured and written at its end."""
        return False

    def delivered(self, state: State, own: Own) -> tuple[int, ...]:
        """The members whose models the user gets at its end."""
        return tuple(range(state.rules.ensemble_size))

    def adopt(self, state: State, own: Own, key: str) -> None:
        """Take the label of a rejected structure that was tried again; nobody waits for it."""

    def open_to_retries(self, own: Own) -> bool:
        """Whether it would adopt one."""
        return False

    # --- what it says of itself --------------------------------------------------------------

    def opening_words(self, state: State) -> str | None:
        """What is worth a line in the log when it begins."""
        return None

    def words_for(self, state: State, own: Own, event: Event) -> str | None:
        """The line of the log that tells of an event, if it is not the usual one."""
        return None

    def name_of(self, own: Own, key: str) -> str | None:
        """What a structure is, where its key says too little."""
        return None

    def origin(self, own: Own, key: str) -> Origin | None:
        """Where a structure comes from, where this stage knows."""
        return None

    def structures(self, state: State, own: Own) -> Iterator[str]:
        """Keys of the structures that it waits for."""
        return iter(())

    def walkers(self, own: Own) -> Iterator[str]:
        """Names of the walkers files that its next molecular dynamics begins with."""
        return iter(())

    def progress(self, state: State, own: Own) -> dict[str, Tally]:
        """Numbers of which one ends the stage when it reaches its limit, by what they count."""
        return counts(self.chosen(state), state, own)

    def remark(self, own: Own) -> str:
        """What is worth adding to the line that tells of a training; mostly nothing."""
        return ""

    def thresholds(self, state: State, own: Own) -> Sequence[ThresholdNow]:
        """Its thresholds of the uncertainty."""
        return ()

    def remaining(self, state: State, own: Own) -> str:
        """What a new label is to the stage, for the line of the log that tells of it."""
        books = state.books
        return f"{books.train_size} to train on, {books.n_valid} to validate on"

    def trajectories(self, state: State, own: Own) -> Sequence[TrajectoryNow]:
        """Its trajectories, in order."""
        return ()

    def target(self, state: State) -> float:
        """Force MAE in eV/Å that is good enough for it."""
        return state.rules.desired_acc

    def in_methods(self, state: State) -> str | None:
        """What it did, in a sentence for the methods section of a paper."""
        return None

    def resources(self, state: State) -> frozenset[str]:
        """What its work needs besides the committee: `foundation` (a pretrained model), `atoms`."""
        return frozenset()


@dataclass(frozen=True)
class Procedure:
    """What a command does.

    Attributes:
        name: as the journal has it.
        words: what it is to reach, in words.
        stages: that it goes through, in order, as far as they are needed.
        command: that carries it out.
        journal: name of its journal in `restart/`; None: the command names it.
        after: name of the procedure that must be at its end before, if it was begun; or empty.
    """

    name: str
    words: str
    stages: tuple[Stage[Any], ...]
    command: str
    journal: str | None = "journal.jsonl"
    after: str = ""

    def stage(self, name: str) -> Stage[Any] | None:
        """Its stage of this name."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def following(self, state: State) -> Stage[Any] | None:
        """The stage that comes next: the first needed one behind all that are over."""
        names = [stage.name for stage in self.stages]
        over = [names.index(name) for name in state.passed if name in names]
        rest = self.stages[max(over) + 1 :] if over else self.stages
        return next((stage for stage in rest if stage.needed(state)), None)
