"""Which structures of molecular dynamics are worth a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fhi_al.md.shard import Frame
from fhi_al.procedures.threshold import ThresholdRule, Thresholds
from fhi_al.record import effects, events

Reason = Literal["threshold", "overdue", "unstable", "audit"]


class Selection:
    """Follows the uncertainties of all walkers of an `Advance`.

    Args:
        effect: has the history, and what is due when.
        rule: of the threshold.
        audit_interval: MD steps between sanity checks of a trajectory.
        systems: of each trajectory of the run, where each system has its own threshold; else empty.
    """

    def __init__(
        self,
        effect: effects.Advance,
        rule: ThresholdRule,
        audit_interval: int,
        systems: Sequence[str] = (),
    ) -> None:
        self._thresholds = Thresholds(rule, systems)
        for history in effect.histories:
            self._thresholds.restore(history.system, history.values, history.n_estimates)
        self._checks_left = dict(zip(effect.trajectories, effect.checks_left, strict=True))
        self._audits_due = {
            trajectory: steps
            for trajectory, steps in zip(effect.trajectories, effect.audits_due, strict=True)
            if steps >= 0
        }
        self._audit_interval = audit_interval

    def check(
        self, frames: Sequence[Frame], n_steps: int
    ) -> tuple[events.Check, list[events.Candidate]]:
        """Take in the frames of one check, in the order of trajectories.

        A broken walker has no uncertainty that could enter the history.

        Args:
            frames: one a walker.
            n_steps: MD steps since the check before.

        Returns:
            The check, and the candidates, whose keys are still empty.
        """
        sane = [frame for frame in frames if not frame.broken]
        check = events.Check(
            trajectories=tuple(frame.trajectory for frame in sane),
            steps=tuple(frame.step for frame in sane),
            uncertainties=tuple(frame.uncertainty for frame in sane),
            temperatures=tuple(frame.temperature for frame in sane),
        )
        candidates = []
        for frame in frames:
            if not frame.broken:
                self._thresholds.of(frame.trajectory).add(frame.uncertainty)
            reason = self._reason(frame, n_steps)
            if reason is not None:
                candidates.append(
                    events.Candidate(
                        trajectory=frame.trajectory,
                        step=frame.frontier,
                        key="",
                        uncertainty=frame.uncertainty,
                        threshold=self._thresholds.of(frame.trajectory).value,
                        reason=reason,
                        detail=frame.broken,
                    )
                )
        return check, candidates

    def _reason(self, frame: Frame, n_steps: int) -> Reason | None:
        trajectory = frame.trajectory
        threshold = self._thresholds.of(trajectory).value
        self._checks_left[trajectory] -= 1
        if trajectory in self._audits_due:
            self._audits_due[trajectory] -= n_steps
        if frame.broken:
            return "unstable"
        if threshold is not None and frame.uncertainty > threshold:
            return "threshold"
        if self._checks_left[trajectory] <= 0:
            return "overdue"
        if self._audits_due.get(trajectory, 1) <= 0:
            self._audits_due[trajectory] = self._audit_interval
            return "audit"
        return None
