"""The moving threshold that decides when the reference is asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ThresholdRule:
    """How the threshold follows from the uncertainties.

    Attributes:
        factor: f in theta = f * mean(newest uncertainties).
        window: how many of the newest uncertainties are averaged.
        warmup: how many estimates there must be before there is a threshold.
    """

    factor: float
    window: int
    warmup: int


class Threshold:
    """The history of uncertainties, shared by all trajectories, and the threshold it gives.

    Args:
        rule: how to compute the threshold.
        history: the newest uncertainties so far, oldest first.
        n_estimates: how many there were in all (at least as many as in `history`).

    Source: manual, "Active Learning"; the window is that of the original program.
    """

    def __init__(
        self, rule: ThresholdRule, history: Iterable[float] = (), n_estimates: int = 0
    ) -> None:
        self.rule = rule
        self._window: deque[float] = deque(history, maxlen=rule.window)
        # Summed anew for each value: a running sum would drift with the order of its rounding,
        # and a restart must give the same bits.
        self.n_estimates = max(n_estimates, len(self._window))

    @property
    def history(self) -> tuple[float, ...]:
        """The uncertainties in the window, oldest first."""
        return tuple(self._window)

    def add(self, uncertainty: float) -> float | None:
        """Take an uncertainty into the history.

        Returns:
            The threshold to compare it with, itself included; None during the warm-up.
        """
        self._window.append(uncertainty)
        self.n_estimates += 1
        return self.value

    @property
    def value(self) -> float | None:
        """The present threshold, or None during the warm-up."""
        if self.n_estimates < self.rule.warmup or not self._window:
            return None
        return self.rule.factor * (sum(self._window) / len(self._window))


class Thresholds:
    """One threshold for all trajectories, or one for those of each system.

    Args:
        rule: how to compute a threshold.
        systems: of each trajectory; empty: they share one threshold.
    """

    def __init__(self, rule: ThresholdRule, systems: Sequence[str] = ()) -> None:
        self._rule = rule
        self._systems = systems
        self._thresholds: dict[str, Threshold] = {}

    def restore(self, system: str, history: Iterable[float], n_estimates: int) -> None:
        """Take over what a system's threshold knew before; see `Threshold`."""
        self._thresholds[system] = Threshold(self._rule, history, n_estimates)

    def follow(self, rule: ThresholdRule, systems: Sequence[str]) -> None:
        """Go on by other settings, with what the thresholds know; the arguments are as at first."""
        self._rule, self._systems = rule, systems
        for system, known in list(self._thresholds.items()):
            self.restore(system, known.history, known.n_estimates)

    def of(self, trajectory: int) -> Threshold:
        """The threshold that a trajectory is compared with."""
        return self.of_system(self._systems[trajectory] if self._systems else "")

    def of_system(self, system: str) -> Threshold:
        """The threshold of a system, by its name; empty where there is one for all."""
        if system not in self._thresholds:
            self._thresholds[system] = Threshold(self._rule)
        return self._thresholds[system]
