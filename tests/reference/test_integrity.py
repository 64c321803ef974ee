"""Numbers that can't belong to the structure never become a label."""

from __future__ import annotations

import numpy as np
import pytest

from fhi_al.errors import EngineError, UnsoundError
from fhi_al.reference.engine import engine_class
from fhi_al.reference.rescue import RescuingEngine
from fhi_al.settings.reference import AseSettings


def start(tmp_path, flaw: str, largest: float = 0.1) -> RescuingEngine:
    settings = AseSettings(
        calculator="reference_calculators.Unsound", arguments={"flaw": flaw}, energy="energy"
    )
    kind = engine_class("ase")
    return RescuingEngine(kind, settings, None, ["H", "O"], None, tmp_path, largest)


def test_a_sound_label_passes(tmp_path, water):
    label = start(tmp_path, "").label(water)
    np.testing.assert_allclose(label.forces.sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("pulled", "add up to 0.15 eV/Å"),
        ("shape", r"forces .*shape \(2, 3\), expected \(3, 3\)"),
        ("nan", "forces .* not finite"),
        ("moved", "another geometry .* by up to 0.1 Å"),
        ("reordered", "another order of atoms"),
    ],
)
def test_an_unsound_label_is_rejected(tmp_path, water, flaw, message):
    with pytest.raises(UnsoundError, match=message) as error:
        start(tmp_path, flaw).label(water)
    assert error.value.kind == "integrity"
    assert error.value.attempts == 1


def test_the_net_force_is_the_users_choice(tmp_path, water, silicon):
    assert start(tmp_path, "pulled", largest=0.2).label(water)
    # Of a crystal it says nothing.
    assert start(tmp_path, "pulled").label(silicon)


def test_a_calculator_without_forces_ends_the_run(tmp_path, water):
    with pytest.raises(EngineError, match="forces"):
        start(tmp_path, "no forces").label(water)
