"""The initial dataset: sample structures, label them, train on them, until it is good enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fhi_al.procedures.procedure import Stage, TrajectoryNow
from fhi_al.procedures.split import next_split
from fhi_al.procedures.state import Origin, State
from fhi_al.procedures.stop import INITIAL_STOP_CRITERIA, StopCriterion
from fhi_al.record.effects import Calculate, Effect, ReferenceStep, Sample, Train
from fhi_al.record.events import (
    Entry,
    Event,
    Labelled,
    LabelRejected,
    Sampled,
    Trained,
)


@dataclass
class ReferenceMd:
    """An ab initio MD, from one geometry.

    Attributes:
        walkers: file in which it stands.
        step: steps so far; -1 before its first structure.
        key: the structure at its present position.
        labelled: whether that structure has its label.
    """

    walkers: str | None = None
    step: int = -1
    key: str | None = None
    labelled: bool = False


@dataclass
class InitialState:
    """The initial dataset.

    Attributes:
        sampled: rounds whose structures are all chosen.
        labelled: rounds whose structures all have an outcome.
        trained: rounds that have been trained on.
        waiting: keys of chosen structures without an outcome yet, with their compositions.
        n_sampled: structures chosen so far, over all rounds.
        round_taken: structures that the ab initio MD has given to the present round.
        walkers: file in which the sampling MD stands.
        reference_md: geometry -> the ab initio MD from there.
        epochs: trained in this stage; `round_epochs` of them in the present round.
        reason: why the stage ended.
    """

    sampled: int = 0
    labelled: int = 0
    trained: int = 0
    waiting: dict[str, str] = field(default_factory=dict)
    n_sampled: int = 0
    round_taken: int = 0
    walkers: str | None = None
    reference_md: dict[int, ReferenceMd] = field(default_factory=dict)
    epochs: int = 0
    round_epochs: int = 0
    reason: str | None = None


class InitialDatasetStage(Stage[InitialState]):
    """Samples, labels and trains in rounds, until the models can be let loose."""

    moves = True

    def needed(self, state: State) -> bool:
        """Where the user brings no data."""
        return not state.books.imported

    def begin(self, state: State) -> InitialState:
        """Nothing is there yet."""
        return InitialState()

    def step(self, state: State, own: InitialState, event: Event) -> None:
        """Take an event into the state."""
        rules = state.rules
        if isinstance(event, Sampled):
            _sampled(state, own, event)
        elif isinstance(event, Labelled | LabelRejected):
            for md in own.reference_md.values():
                if event.key == md.key and not md.labelled:
                    _reference_md(state, own, md, event)
            if event.key in own.waiting:
                del own.waiting[event.key]
                if isinstance(event, Labelled):
                    self.adopt(state, own, event.key)
                _close_round(state, own)
        elif isinstance(event, Trained):
            own.epochs += event.epochs
            own.round_epochs += event.epochs
            if own.round_epochs >= rules.initial_intermediate_epochs:
                own.trained += 1
                own.round_epochs = 0
            own.reason = own.reason or self.first_reason(state, own)

    def adopt(self, state: State, own: InitialState, key: str) -> None:
        """Deal a label to the member whose turn it is."""
        _take(state, key)

    def open_to_retries(self, own: InitialState) -> bool:
        """As long as the set grows."""
        return own.reason is None

    def wanted(self, state: State, own: InitialState) -> list[Effect]:
        """What should be running now, the most urgent first."""
        rules, books = state.rules, state.books
        effects: list[Effect] = [
            Calculate(id=f"label-{key}", key=key, purpose="initial", composition=composition)
            for key, composition in own.waiting.items()
        ]
        if own.reason:
            # Structures that nobody has begun to label are not bought any more.
            return [effect for effect in effects if effect.id in books.in_flight]
        ahead = own.sampled - own.trained
        may_sample = (
            own.sampled == own.labelled
            and ahead <= (1 if rules.asynchronous else 0)
            and not _full(state, own)
        )
        if may_sample:
            effects += _sampling(state, own)
        if own.labelled > own.trained:
            left = rules.initial_intermediate_epochs - own.round_epochs
            effects.append(
                Train(
                    id=f"train-{books.n_trained}",
                    stage=self.name,
                    weights=books.weights,
                    members=tuple(range(rules.ensemble_size)),
                    epochs=min(left, rules.max_initial_epochs - own.epochs),
                    entries=books.entries,
                    atomic_energies=books.given_energies,
                )
            )
        return effects

    def reason(self, own: InitialState) -> str | None:
        """Why it ended."""
        return own.reason

    def delivers(self, state: State) -> bool:
        """Unless the models are converged first."""
        return not state.rules.converge_initial

    def words_for(self, state: State, own: InitialState, event: Event) -> str | None:
        """Nothing of single steps of ab initio MD: their labels tell enough."""
        if isinstance(event, Sampled) and state.rules.initial_method == "aimd":
            return ""
        return None

    def origin(self, own: InitialState, key: str) -> Origin | None:
        """The ab initio MD that stands there."""
        for geometry, md in own.reference_md.items():
            if key == md.key:
                return Origin(geometry, md.step)
        return None

    def structures(self, state: State, own: InitialState) -> Iterator[str]:
        """Chosen ones, and those at which ab initio MD stands."""
        yield from own.waiting
        for md in own.reference_md.values():
            if md.key is not None and not md.labelled:
                yield md.key

    def walkers(self, own: InitialState) -> Iterator[str]:
        """Where the sampling MD stands."""
        for name in (own.walkers, *(md.walkers for md in own.reference_md.values())):
            if name is not None:
                yield name

    def chosen(self, state: State) -> Iterator[StopCriterion]:
        """Those of `initial_stop_when`."""
        return (INITIAL_STOP_CRITERIA[name] for name in state.rules.initial_stop_when)

    def trajectories(self, state: State, own: InitialState) -> Sequence[TrajectoryNow]:
        """Those of ab initio MD."""
        return [
            TrajectoryNow(number, "running" if md.labelled else "labelling", max(md.step, 0))
            for number, md in sorted(own.reference_md.items())
        ]

    def target(self, state: State) -> float:
        """Good enough to start active learning with."""
        return state.rules.initial_target

    def resources(self, state: State) -> frozenset[str]:
        """A pretrained model, if that samples."""
        return frozenset({"foundation"} & {state.rules.initial_method})


def _sampled(state: State, own: InitialState, event: Sampled) -> None:
    if state.rules.initial_method == "aimd":
        md = own.reference_md.setdefault(event.geometry, ReferenceMd())
        md.walkers, md.labelled = event.walkers, False
        md.step += 1
        (md.key,) = event.keys
        return
    own.walkers = event.walkers
    compositions = event.compositions or ("",) * len(event.keys)
    for key, composition in zip(event.keys, compositions, strict=True):
        if key not in state.books.outcomes:
            own.waiting[key] = composition
    own.n_sampled += len(event.keys)
    own.sampled += 1
    _close_round(state, own)


def _reference_md(
    state: State, own: InitialState, md: ReferenceMd, event: Labelled | LabelRejected
) -> None:
    """One step of ab initio MD has its label, or has none."""
    rules = state.rules
    if isinstance(event, LabelRejected):
        # Start anew from the geometry; the step count goes on.
        md.walkers = md.key = None
        return
    md.labelled = True
    if md.step > 0 and md.step % rules.skip_step_initial == 0:
        _take(state, event.key)
        own.n_sampled += 1
        own.round_taken += 1
        if own.round_taken == rules.round_size or _full(state, own):
            own.round_taken = 0
            own.sampled += 1
            _close_round(state, own)


def _take(state: State, key: str) -> None:
    """Deal a label to the member whose turn it is."""
    member = len(state.books.entries) % state.rules.ensemble_size
    own = [entry.split for entry in state.books.entries if entry.member == member]
    split = next_split(own.count("valid"), len(own), state.rules.valid_ratio)
    state.books.add(Entry(key, member, split))


def _close_round(state: State, own: InitialState) -> None:
    if own.waiting:
        return
    own.labelled = own.sampled
    if min(state.books.train_sizes) == 0 or state.books.n_valid == 0:
        # Too few labels for every member to train and validate on something: sample more.
        own.trained = own.labelled
        if _full(state, own):
            state.books.failure = (
                f"{len(state.books.entries)} labels are too few for {state.rules.ensemble_size} "
                "members to train and validate on, and max_initial_set_size allows no more: raise "
                "it"
            )


def _full(state: State, own: InitialState) -> bool:
    limit = state.rules.initial_set_limit
    return limit is not None and own.n_sampled >= limit


def _sampling(state: State, own: InitialState) -> list[Effect]:
    rules = state.rules
    if rules.initial_method == "aimd":
        nowhere = ReferenceMd()
        return [
            _reference_step(geometry, own.reference_md.get(geometry, nowhere))
            for geometry in range(rules.n_geometries)
        ]
    count = rules.round_size
    if rules.initial_set_limit is not None:
        count = min(count, rules.initial_set_limit - own.n_sampled)
    return [
        Sample(
            id=f"sample-{own.sampled}",
            method=rules.initial_method,
            count=count,
            first=own.n_sampled,
            walkers=own.walkers,
        )
    ]


def _reference_step(geometry: int, md: ReferenceMd) -> Effect:
    """What an ab initio MD needs next: a label where it stands, or to be moved."""
    if md.key is not None and not md.labelled:
        return Calculate(
            id=f"label-{md.key}", key=md.key, purpose="md", trajectory=geometry, step=md.step
        )
    # The first has the name that it had when there was only one.
    kind = "md" if geometry == 0 else f"md{geometry}"
    return ReferenceStep(
        id=f"{kind}-{md.step + 1}",
        walkers=md.walkers,
        label=md.key,
        step=md.step + 1,
        geometry=geometry,
    )


INITIAL_DATASET = InitialDatasetStage(
    "initial_dataset", "Initial dataset", "initial_dataset.log", "initial dataset"
)
