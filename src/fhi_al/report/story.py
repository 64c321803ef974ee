"""A run as charts need it: one pass over the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fhi_al.analysis.histories import looks
from fhi_al.procedures.reading import read_rules
from fhi_al.procedures.run import step
from fhi_al.procedures.state import State
from fhi_al.procedures.threshold import Thresholds
from fhi_al.record.events import (
    Advanced,
    Candidate,
    Died,
    Labelled,
    LabelRejected,
    Opened,
    Stage,
    Trained,
)
from fhi_al.record.journal import Record


@dataclass(frozen=True)
class TrainingPoint:
    """A training.

    Attributes:
        stage: in which it was.
        calls: of the reference so far.
        epoch: of the members in their lives.
        force_maes: validation, in eV/Å, of each member that trained and has been validated.
        energy_maes: likewise, in eV per atom.
    """

    stage: Stage
    calls: int
    epoch: int
    force_maes: tuple[float, ...]
    energy_maes: tuple[float, ...]


@dataclass(frozen=True)
class Answer:
    """What the reference said about a structure.

    Attributes:
        calls: of the reference so far, this one included.
        key: of the structure.
        energy: in eV; None where there is none.
        formula: of the structure; empty where there is no energy.
        n_atoms: of the structure.
        candidate: where it comes from, if molecular dynamics chose it.
        force_error: MAE in eV/Å of the forces that the committee had predicted, or None.
        seconds: that the engine worked.
    """

    calls: int
    key: str
    energy: float | None
    formula: str
    n_atoms: int
    candidate: Candidate | None
    force_error: float | None
    seconds: float


@dataclass
class Walk:
    """What the checks found along one trajectory; one number a check.

    Attributes:
        steps: MD steps.
        uncertainties: in eV/Å.
        thresholds: in eV/Å; None during the warm-up.
        temperatures: kinetic, in K.
        chosen: structures for the reference.
    """

    steps: list[int] = field(default_factory=list)
    uncertainties: list[float] = field(default_factory=list)
    thresholds: list[float | None] = field(default_factory=list)
    temperatures: list[float] = field(default_factory=list)
    chosen: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True)
class Sizes:
    """The datasets after so many calls of the reference.

    Attributes:
        train: structures in the largest training set of a member.
        valid: structures in all validation sets.
        audit: sanity checks.
        rejected: structures without a usable label.
    """

    calls: int
    train: int
    valid: int
    audit: int
    rejected: int


@dataclass
class Story:
    """A run, from its first record to its last.

    Attributes:
        records: of the journal.
        first: the first command.
        last: the newest command.
        state: after all records.
        lessons: in order.
        answers: of the reference, isolated atoms left out.
        walks: trajectory -> what was found along it.
        sizes: in order.
        calls: of the reference, failed ones and isolated atoms included.
        n_commands: how often the run was started.
        deaths: of reference libraries.
        rescues: what helped an SCF to converge -> how often.
    """

    records: Sequence[Record]
    first: Opened
    last: Opened
    state: State
    lessons: list[TrainingPoint] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    walks: dict[int, Walk] = field(default_factory=dict)
    sizes: list[Sizes] = field(default_factory=list)
    calls: int = 0
    n_commands: int = 1
    deaths: int = 0
    rescues: Counter[str] = field(default_factory=Counter)


def tell(records: Sequence[Record]) -> Story:
    """Read a run.

    Args:
        records: of its journal, with at least one command.
    """
    first = records[0].event
    assert isinstance(first, Opened)
    story = Story(records, first, first, step(None, first))
    rules = read_rules(first.settings)
    thresholds = Thresholds(rules.threshold, rules.threshold_systems)
    chosen: dict[str, Candidate] = {}
    for record in records[1:]:
        event = record.event
        stage, n_entries = story.state.stage, len(story.state.books.entries)
        story.state = step(story.state, event)
        if isinstance(event, Opened):
            story.last = event
            rules = story.state.rules
            thresholds.follow(rules.threshold, rules.threshold_systems)
            story.n_commands += 1
        elif isinstance(event, Died):
            story.deaths += 1
        elif isinstance(event, Advanced):
            _walk(story, event, thresholds)
            chosen |= {candidate.key: candidate for candidate in event.candidates}
        elif isinstance(event, Trained):
            _learn(story, event, stage)
        elif isinstance(event, Labelled | LabelRejected):
            _ask(story, event, stage, chosen.get(event.key))
        _measure(story, n_entries)
    return story


def _walk(story: Story, event: Advanced, thresholds: Thresholds) -> None:
    for check in event.checks:
        for trajectory, step_, uncertainty, threshold, temperature in looks(check, thresholds):
            walk = story.walks.setdefault(trajectory, Walk())
            walk.steps.append(step_)
            walk.uncertainties.append(uncertainty)
            walk.thresholds.append(threshold)
            walk.temperatures.append(temperature)
    for candidate in event.candidates:
        story.walks.setdefault(candidate.trajectory, Walk()).chosen.append(candidate)


def _learn(story: Story, event: Trained, stage: Stage) -> None:
    members = [event.members[index] for index in event.trained]
    forces = tuple(m.force_mae for m in members if m.force_mae is not None)
    energies = tuple(m.energy_mae for m in members if m.energy_mae is not None)
    if len(forces) == len(energies) == len(members):
        epoch = max(member.epoch for member in members)
        story.lessons.append(TrainingPoint(stage, story.calls, epoch, forces, energies))


def _ask(
    story: Story, event: Labelled | LabelRejected, stage: Stage, candidate: Candidate | None
) -> None:
    # A label that was in the store already is no call.
    story.calls += event.seconds > 0
    if event.key in story.state.books.apart:
        return
    if isinstance(event, LabelRejected):
        answer = Answer(story.calls, event.key, None, "", 0, candidate, None, event.seconds)
    else:
        if event.rescue:
            story.rescues[event.rescue] += 1
        answer = Answer(
            story.calls,
            event.key,
            event.energy,
            event.formula,
            event.n_atoms,
            candidate,
            event.force_error,
            event.seconds,
        )
    story.answers.append(answer)


def _measure(story: Story, known: int) -> None:
    """Note the sizes of the datasets where they have changed; the first entries were known."""
    state = story.state
    audits = story.sizes[-1].audit if story.sizes else 0
    audits += sum(entry.split == "audit" for entry in state.books.entries[known:])
    # A spin state that an isolated atom can't have is no loss.
    rejected = sum(key not in state.books.apart for key in state.books.rejected)
    now = Sizes(story.calls, state.books.train_size, state.books.n_valid, audits, rejected)
    if not story.sizes or now != story.sizes[-1]:
        story.sizes.append(now)
