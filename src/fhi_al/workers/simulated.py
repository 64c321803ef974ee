"""Workers that compute nothing: for tests and benchmarks of the procedures and the controller."""

from __future__ import annotations

import hashlib

import numpy as np

from fhi_al.handlers.choosing import selected
from fhi_al.handlers.worker import Slices
from fhi_al.procedures.rules import Rules
from fhi_al.procedures.stop import (
    CONVERGE_STOP_CRITERIA,
    INITIAL_STOP_CRITERIA,
    STOP_CRITERIA,
    defaults,
)
from fhi_al.procedures.threshold import Thresholds
from fhi_al.record.effects import (
    Advance,
    Calculate,
    Effect,
    Evaluate,
    Export,
    Import,
    Isolate,
    ReferenceStep,
    Sample,
    Select,
    Train,
)
from fhi_al.record.events import (
    Advanced,
    Candidate,
    Check,
    Errors,
    Evaluated,
    Event,
    Exported,
    Imported,
    Isolated,
    Labelled,
    LabelRejected,
    MemberState,
    Sampled,
    Selected,
    Trained,
)


def simulated_rules(**changes: object) -> Rules:
    """Rules of a small run.

    Args:
        changes: fields of `Rules` with other values.
    """
    values: dict[str, object] = {
        "asynchronous": True,
        "ensemble_size": 2,
        "auto_atomic_energies": False,
        "valid_ratio": 0.2,
        "min_valid_size": 1,
        "max_failed_fraction": 0.9,
        "initial_method": "perturb",
        "n_samples": 3,
        "skip_step_initial": 2,
        "initial_target": 0.1,
        "initial_intermediate_epochs": 4,
        "max_initial_epochs": 40,
        "max_initial_set_size": None,
        "converge_initial": False,
        "desired_acc": 0.01,
        "num_trajectories": 3,
        "skip_step_mlff": 10,
        "max_MD_steps": 2000,
        "max_set_size": 30,
        "max_epochs_worker": 4,
        "intermediate_epochs": 2,
        "patience": 20,
        "margin": 1e-4,
        "threshold_factor": 1.0,
        "uncertainty_window": 50,
        "uncertainty_warmup": 10,
        "max_checks_without_label": 20,
        "audit_every": 0,
        "converge_al": True,
        "converge_best": True,
        "converge_on": "union",
        "max_final_epochs": 50,
        "final_patience": 30,
        "initial_stop_when": defaults(INITIAL_STOP_CRITERIA),
        "stop_when": defaults(STOP_CRITERIA),
        "converge_stop_when": defaults(CONVERGE_STOP_CRITERIA),
    }
    return Rules(**{**values, **changes})  # type: ignore[arg-type]


class SimulatedWorker:
    """Answers every effect at once with an event that could be true.

    The force error falls with the number of training labels. Uncertainties are random.

    Args:
        rules: of the run.
        seed: of everything random.
        rejects: fraction of structures that the reference can't do.
        unstable: fraction of checks at which a walker breaks.
        repeats: fraction of chosen structures that were chosen before.
        pooled: fraction of chosen structures for which no walker waits.
    """

    def __init__(
        self,
        rules: Rules,
        seed: int = 0,
        *,
        rejects: float = 0.0,
        unstable: float = 0.0,
        repeats: float = 0.0,
        pooled: float = 0.0,
    ) -> None:
        self._rules = rules
        self._random = np.random.default_rng(seed)
        self._seed = seed
        self._rejects = rejects
        self._unstable = unstable
        self._repeats = repeats
        self._pooled = pooled
        self._pool_random = np.random.default_rng([seed, 2])
        self._repeat_random = np.random.default_rng([seed, 1])
        self._chosen: list[str] = []
        self._steps: dict[int, int] = {}
        self._epochs = 0
        self.labelled: list[str] = []

    def run(self, effect: Effect) -> Slices:
        """One slice, one event."""
        yield
        return self.answer(effect)

    def hurry(self) -> None:
        """It is fast already."""

    def close(self) -> None:
        """Nothing to let go of."""

    def answer(self, effect: Effect) -> Event:
        """The event that this effect leads to."""
        if isinstance(effect, Calculate):
            return self._label(effect)
        if isinstance(effect, Sample):
            keys = tuple(self._key("sample", effect.first + i) for i in range(effect.count))
            return Sampled(effect.id, effect.id, keys, 0.0)
        if isinstance(effect, ReferenceStep):
            what = (effect.geometry,) if effect.geometry else ()
            key = self._key("md", effect.step, *what)
            return Sampled(effect.id, effect.id, (key,), 0.0, geometry=effect.geometry)
        if isinstance(effect, Advance):
            return self._advance(effect)
        if isinstance(effect, Train):
            return self._train(effect)
        if isinstance(effect, Isolate):
            return Isolated(effect.id, (("H", 1, self._key("H", 1)), ("O", 2, self._key("O", 2))))
        if isinstance(effect, Evaluate):
            errors = Errors("committee", "validation", 0.01, 0.02, 0.001, 0.002, 1)
            return Evaluated(effect.id, (errors,), 0.0)
        if isinstance(effect, Export):
            return Exported(effect.id, ("model/simulated.model",), 0.0)
        if isinstance(effect, Select):
            return self._select(effect)
        assert isinstance(effect, Import)
        return Imported(effect.id, None, (), ())

    def _key(self, *what: object) -> str:
        return hashlib.sha256(repr((self._seed, what)).encode()).hexdigest()

    def _label(self, effect: Calculate) -> Event:
        # By the key alone: a structure that fails fails again.
        if int(effect.key[:8], 16) / 2**32 < self._rejects:
            return LabelRejected(effect.id, effect.key, "simulated", 0.0)
        self.labelled.append(effect.key)
        return Labelled(effect.id, effect.key, -1.0, 1e-6)

    def _advance(self, effect: Advance) -> Advanced:
        rules = self._rules
        thresholds = Thresholds(rules.threshold, rules.threshold_systems)
        for history in effect.histories:
            thresholds.restore(history.system, history.values, history.n_estimates)
        start = {
            trajectory: rules.max_MD_steps - left
            for trajectory, left in zip(effect.trajectories, effect.steps_left, strict=True)
        }
        checks: list[Check] = []
        candidates: list[Candidate] = []
        steps = dict(start)
        audits_due = dict(zip(effect.trajectories, effect.audits_due, strict=True))
        for number in range(1, 6):
            steps = {
                t: min(s + number * rules.skip_step_mlff, rules.max_MD_steps)
                for t, s in start.items()
            }
            values = tuple(float(u) for u in self._random.exponential(0.1, len(steps)))
            checks.append(
                Check(effect.trajectories, tuple(steps.values()), values, (300.0,) * len(steps))
            )
            for (t, s), u in zip(steps.items(), values, strict=True):
                theta = thresholds.of(t).add(u)
                unstable = self._random.random() < self._unstable
                audited = 0 <= audits_due[t] <= s - start[t]
                if unstable or audited or (theta is not None and u > theta):
                    above = theta is not None and u > theta
                    reason = "unstable" if unstable else "threshold" if above else "audit"
                    if reason == "threshold" and self._pool_random.random() < self._pooled:
                        reason = "pool"
                    key = self._choose(self._key("walker", t, s))
                    candidates.append(Candidate(t, s, key, u, theta, reason))  # type: ignore[arg-type]
            if (
                any(c.reason != "pool" for c in candidates)
                or max(steps.values()) >= rules.max_MD_steps
            ):
                break
        return Advanced(
            effect=effect.id,
            walkers=effect.id,
            trajectories=effect.trajectories,
            steps=tuple(steps.values()),
            checks=tuple(checks),
            candidates=tuple(candidates),
            seconds=0.0,
            path="simulated",
        )

    def _select(self, effect: Select) -> Selected:
        """Structures are points on a line: many of them are near-duplicates."""
        keys = {*effect.waiting, *effect.ahead, *(entry.key for entry in effect.entries)}
        rows = {key: np.array([int(key[:8], 16) / 2**32]) for key in keys}
        waiting = {key: rows[key] for key in effect.waiting}
        known = {key: row for key, row in rows.items() if key not in waiting}
        # Other models, other scores.
        scores = {key: float(int(self._key(effect.weights, key)[:8], 16)) for key in waiting}
        return selected(effect, waiting, known, scores)

    def _choose(self, key: str) -> str:
        """This structure, or one that was chosen before."""
        if self._chosen and self._repeat_random.random() < self._repeats:
            return self._chosen[self._repeat_random.integers(len(self._chosen))]
        self._chosen.append(key)
        return key

    def _train(self, effect: Train) -> Trained:
        self._epochs += effect.epochs
        n_train = sum(entry.split == "train" for entry in effect.entries)
        error = 0.5 / (1 + n_train)
        member = MemberState(
            epoch=self._epochs,
            loss=error,
            valid_loss=error,
            force_mae=error,
            energy_mae=error,
            best_force_mae=error,
            best_loss=error,
            stale_epochs=effect.epochs,
            n_train=n_train,
            n_valid=1,
        )
        return Trained(
            effect=effect.id,
            weights=effect.id,
            members=(member,) * self._rules.ensemble_size,
            trained=effect.members,
            epochs=effect.epochs,
            n_entries=len(effect.entries),
            history=(),
            seconds=0.0,
        )
