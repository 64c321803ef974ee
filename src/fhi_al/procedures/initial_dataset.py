"""The initial dataset: sample structures, label them, train on them, until it is good enough."""

from __future__ import annotations

from fhi_al.procedures.split import next_split
from fhi_al.procedures.state import ReferenceMd, State
from fhi_al.procedures.stop import first_reason
from fhi_al.record.effects import Calculate, Effect, ReferenceStep, Sample, Train
from fhi_al.record.events import (
    Entry,
    Event,
    Labelled,
    LabelRejected,
    Sampled,
    Trained,
)


def step(state: State, event: Event) -> None:
    """Take an event into the state."""
    initial, rules = state.initial, state.rules
    if isinstance(event, Sampled):
        if rules.initial_method == "aimd":
            md = initial.reference_md.setdefault(event.geometry, ReferenceMd())
            md.walkers, md.labelled = event.walkers, False
            md.step += 1
            (md.key,) = event.keys
        else:
            initial.walkers = event.walkers
            compositions = event.compositions or ("",) * len(event.keys)
            for key, composition in zip(event.keys, compositions, strict=True):
                if key not in state.outcomes:
                    initial.waiting[key] = composition
            initial.n_sampled += len(event.keys)
            initial.sampled += 1
            _close_round(state)
    elif isinstance(event, (Labelled, LabelRejected)):
        for md in initial.reference_md.values():
            if event.key == md.key and not md.labelled:
                _reference_md(state, md, event)
        if event.key in initial.waiting:
            del initial.waiting[event.key]
            if isinstance(event, Labelled):
                take(state, event.key)
            _close_round(state)
    elif isinstance(event, Trained):
        initial.epochs += event.epochs
        initial.round_epochs += event.epochs
        if initial.round_epochs >= rules.initial_intermediate_epochs:
            initial.trained += 1
            initial.round_epochs = 0
        initial.reason = initial.reason or first_reason(state)


def _reference_md(state: State, md: ReferenceMd, event: Labelled | LabelRejected) -> None:
    """One step of ab initio MD has its label, or has none."""
    initial, rules = state.initial, state.rules
    if isinstance(event, LabelRejected):
        # Start anew from the geometry; the step count goes on.
        md.walkers = md.key = None
        return
    md.labelled = True
    if md.step > 0 and md.step % rules.skip_step_initial == 0:
        take(state, event.key)
        initial.n_sampled += 1
        initial.round_taken += 1
        if initial.round_taken == rules.round_size or _full(state):
            initial.round_taken = 0
            initial.sampled += 1
            _close_round(state)


def take(state: State, key: str) -> None:
    """Deal a label to the member whose turn it is."""
    member = len(state.entries) % state.rules.ensemble_size
    own = [entry.split for entry in state.entries if entry.member == member]
    split = next_split(own.count("valid"), len(own), state.rules.valid_ratio)
    state.add(Entry(key, member, split))


def _close_round(state: State) -> None:
    initial = state.initial
    if initial.waiting:
        return
    initial.labelled = initial.sampled
    if min(state.train_sizes) == 0 or state.n_valid == 0:
        # Too few labels for every member to train and validate on something: sample more.
        initial.trained = initial.labelled
        if _full(state):
            state.failure = (
                f"{len(state.entries)} labels are too few for {state.rules.ensemble_size} members "
                "to train and validate on, and max_initial_set_size allows no more: raise it"
            )


def _full(state: State) -> bool:
    limit = state.rules.initial_set_limit
    return limit is not None and state.initial.n_sampled >= limit


def wanted(state: State) -> list[Effect]:
    """What should be running now, the most urgent first."""
    initial, rules = state.initial, state.rules
    effects: list[Effect] = [
        Calculate(id=f"label-{key}", key=key, purpose="initial", composition=composition)
        for key, composition in initial.waiting.items()
    ]
    if initial.reason:
        # Structures that nobody has begun to label are not bought any more.
        return [effect for effect in effects if effect.id in state.in_flight]
    ahead = initial.sampled - initial.trained
    may_sample = (
        initial.sampled == initial.labelled
        and ahead <= (1 if rules.asynchronous else 0)
        and not _full(state)
    )
    if may_sample:
        effects += _sampling(state)
    if initial.labelled > initial.trained:
        left = rules.initial_intermediate_epochs - initial.round_epochs
        effects.append(
            Train(
                id=f"train-{state.n_trained}",
                stage="initial_dataset",
                weights=state.weights,
                members=tuple(range(rules.ensemble_size)),
                epochs=min(left, rules.max_initial_epochs - initial.epochs),
                entries=state.entries,
                atomic_energies=state.given_energies,
            )
        )
    return effects


def _sampling(state: State) -> list[Effect]:
    initial, rules = state.initial, state.rules
    if rules.initial_method == "aimd":
        nowhere = ReferenceMd()
        return [
            _reference_step(geometry, initial.reference_md.get(geometry, nowhere))
            for geometry in range(rules.n_geometries)
        ]
    count = rules.round_size
    if rules.initial_set_limit is not None:
        count = min(count, rules.initial_set_limit - initial.n_sampled)
    return [
        Sample(
            id=f"sample-{initial.sampled}",
            method=rules.initial_method,
            count=count,
            first=initial.n_sampled,
            walkers=initial.walkers,
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


def settled(state: State) -> bool:
    """Whether the stage is over and nothing of it is in work."""
    return state.initial.reason is not None and not wanted(state) and not state.in_flight
