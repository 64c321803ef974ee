"""Active learning: move, doubt, ask, learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fhi_al.procedures.active_state import ActiveState, advanced, answered, room, take, trained
from fhi_al.procedures.pool import PoolRules, calculate
from fhi_al.procedures.procedure import Stage, ThresholdNow, TrajectoryNow
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.state import Origin, State
from fhi_al.procedures.stop import STOP_CRITERIA, StopCriterion
from fhi_al.procedures.threshold import Threshold
from fhi_al.procedures.walkers import WalkerState
from fhi_al.record.effects import Advance, Effect, History, Reset, Train
from fhi_al.record.events import (
    Advanced,
    Event,
    Labelled,
    LabelRejected,
    Selected,
    Trained,
)


class ActiveLearningStage(Stage[ActiveState]):
    """Molecular dynamics finds structures, the reference labels them, the committee trains on."""

    moves = True

    def begin(self, state: State) -> ActiveState:
        """All walkers at their start."""
        return ActiveState([WalkerState(n) for n in range(state.rules.num_trajectories)])

    def resume(self, state: State, own: ActiveState) -> None:
        """More trajectories, longer ones."""
        rules, walkers = state.rules, own.walkers
        walkers += [WalkerState(n) for n in range(len(walkers), rules.num_trajectories)]
        for walker in walkers:
            if walker.status in ("running", "finished"):
                walker.go_on(rules.max_MD_steps)

    def refusals(self, own: ActiveState, rules: Rules) -> Iterator[str]:
        """Fewer trajectories."""
        if rules.num_trajectories < len(own.walkers):
            yield (
                f"ACTIVE_LEARNING.num_trajectories was {len(own.walkers)}, is "
                f"{rules.num_trajectories}; it can only become larger"
            )

    def step(self, state: State, own: ActiveState, event: Event) -> None:
        """Take an event into the state."""
        if isinstance(event, Advanced):
            advanced(state, own, event)
        elif isinstance(event, Labelled | LabelRejected):
            answered(state, own, event)
        elif isinstance(event, Selected):
            own.pool.take(event, state.books.weights, 0 if own.reason else room(state, own))
        elif isinstance(event, Trained):
            trained(state, own, event)
        own.reason = own.reason or self.first_reason(state, own)

    def adopt(self, state: State, own: ActiveState, key: str) -> None:
        """Give a label to all members."""
        take(state, own, key)

    def open_to_retries(self, own: ActiveState) -> bool:
        """As long as the set grows."""
        return own.reason is None

    def wanted(self, state: State, own: ActiveState) -> list[Effect]:
        """What should be running now, the most urgent first."""
        found = {w.candidate.key: w.candidate for w in own.walkers if w.candidate is not None}
        effects: list[Effect] = [calculate(candidate) for candidate in found.values()]
        effects += [calculate(candidate, "audit") for candidate in own.audits.values()]
        effects += own.pool.labels()
        if own.reason:
            # Structures that nobody has begun to label are not bought any more.
            return [effect for effect in effects if effect.id in state.books.in_flight]
        learning = any(walker.status == "training" for walker in own.walkers)
        training = learning or own.lesson_epochs > 0
        moving = _moving(state, own)
        # As long as molecular dynamics finds something, it goes first: the reference gets its work
        # early, and labels that come together share their epochs of training.
        select = None
        if own.pool.waiting:
            others = [*found, *own.audits]
            select = own.pool.wanted(_pool_rules(state), state.books, room(state, own), others)
        if select is not None:
            effects.append(select)
        elif training and not (moving and own.moving_pays):
            effects.append(self._train(state, own))
        elif moving:
            effects.append(_advance(state, own, moving))
        return effects

    def reason(self, own: ActiveState) -> str | None:
        """Why it ends."""
        return own.reason

    def delivers(self, state: State) -> bool:
        """Unless the models are converged first."""
        return not state.rules.converge_al

    def opening_words(self, state: State) -> str:
        """The rule of the threshold."""
        rules = state.rules
        return (
            f"The reference is asked where the uncertainty exceeds {rules.threshold_factor:g} "
            f"times the mean of the last {rules.uncertainty_window} uncertainties, after the first "
            f"{rules.uncertainty_warmup}"
        )

    def origin(self, own: ActiveState, key: str) -> Origin | None:
        """The walker that waits for it or found it, or an audit."""
        waiting = [walker.candidate for walker in own.walkers if walker.candidate]
        pool = own.pool
        if key in pool:
            waiting.append(pool.chosen.get(key) or pool.waiting[key])
        for candidate in (*waiting, *own.audits.values()):
            if candidate.key == key:
                return Origin.of(candidate)
        return None

    def structures(self, state: State, own: ActiveState) -> Iterator[str]:
        """Audits, what walkers wait for, and the pool as long as something may be chosen."""
        yield from own.audits
        if not own.reason:
            yield from own.pool.structures()
        yield from (w.candidate.key for w in own.walkers if w.candidate is not None)

    def walkers(self, own: ActiveState) -> Iterator[str]:
        """The file of all trajectories."""
        if own.file is not None:
            yield own.file

    def chosen(self, state: State) -> Iterator[StopCriterion]:
        """Those of `stop_when`."""
        return (STOP_CRITERIA[name] for name in state.rules.stop_when)

    def trajectories(self, state: State, own: ActiveState) -> Sequence[TrajectoryNow]:
        """One a walker; all are finished when the stage is."""
        systems = state.rules.threshold_systems
        ended = state.stage != self.name
        return [
            TrajectoryNow(
                walker.number,
                "finished" if ended else walker.status,
                walker.step,
                state.rules.max_MD_steps,
                walker.epochs_left if walker.status == "training" and not ended else 0,
                systems[walker.number] if systems else "",
            )
            for walker in own.walkers
        ]

    def remark(self, own: ActiveState) -> str:
        """Whether training is stuck."""
        return "no progress, the optimizer will start afresh" if own.reset_optimizer else ""

    def thresholds(self, state: State, own: ActiveState) -> Sequence[ThresholdNow]:
        """One for all, or one for each system."""
        rules, found = state.rules, []
        for system in dict.fromkeys(rules.threshold_systems) or [""]:
            estimates = own.n_estimates.get(system, 0)
            value = Threshold(rules.threshold, own.histories.get(system, ()), estimates).value
            found.append(
                ThresholdNow(
                    system,
                    value,
                    estimates,
                    rules.uncertainty_warmup,
                    rules.threshold_factor,
                    rules.uncertainty_window,
                )
            )
        return found

    def _train(self, state: State, own: ActiveState) -> Train:
        rules, books = state.rules, state.books
        return Train(
            id=f"train-{books.n_trained}",
            stage=self.name,
            weights=books.weights,
            members=tuple(range(rules.ensemble_size)),
            epochs=rules.intermediate_epochs,
            entries=books.entries,
            reset_optimizer=own.reset_optimizer,
            atomic_energies=books.given_energies,
        )


def _moving(state: State, own: ActiveState) -> tuple[int, ...]:
    """Walkers that may move: none of those beyond what the training set can still take."""
    running = [walker.number for walker in own.walkers if walker.status == "running"]
    return tuple(running[: max(room(state, own), 0)])


def _pool_rules(state: State) -> PoolRules:
    """No group runs dry, which holds one structure in work and one queued, while others come."""
    return PoolRules(ahead=4 * state.rules.reference_groups)


def _advance(state: State, own: ActiveState, moving: tuple[int, ...]) -> Advance:
    rules = state.rules
    walkers = [own.walkers[trajectory] for trajectory in moving]
    every = rules.audit_every
    return Advance(
        id=f"advance-{state.books.n_advanced}",
        walkers=own.file,
        trajectories=moving,
        resets=tuple(
            Reset(trajectory, walker.home)
            for trajectory, walker in zip(moving, walkers, strict=True)
            if walker.reset
        ),
        weights=state.books.weights or "",
        histories=tuple(
            History(system, tuple(values), own.n_estimates[system])
            for system, values in own.histories.items()
        ),
        checks_left=tuple(rules.max_checks_without_label - w.quiet_checks for w in walkers),
        steps_left=tuple(rules.max_MD_steps - w.step for w in walkers),
        audits_due=tuple(every - w.step % every if every else -1 for w in walkers),
        n_train=state.books.train_size,
    )


ACTIVE_LEARNING = ActiveLearningStage(
    "active_learning", "Active learning", "AL.log", "active learning"
)
