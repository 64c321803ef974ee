"""Thresholds go on when settings change between two commands."""

from __future__ import annotations

import pytest

from fhi_al.procedures.threshold import ThresholdRule, Thresholds


def test_a_changed_rule_keeps_what_is_known():
    thresholds = Thresholds(ThresholdRule(1.0, window=4, warmup=3), ["a", "b"])
    for value in (1.0, 2.0, 3.0):
        thresholds.of(0).add(value)
    assert thresholds.of(0).value == pytest.approx(2.0)
    # Another factor, a shorter window, and a third trajectory.
    thresholds.follow(ThresholdRule(0.5, window=2, warmup=3), ["a", "b", "a"])
    assert thresholds.of(2).value == pytest.approx(0.5 * 2.5)
    assert thresholds.of(1).value is None
    assert thresholds.of(2).add(5.0) == pytest.approx(0.5 * 4.0)
