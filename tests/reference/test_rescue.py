"""A failed SCF is tried again with the settings that the user gives, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from asi_library.build import SPECIES_DIR
from reference_cases import ASI_ELEMENTS, asi_control

from fhi_al.atoms.structure import Structure, structure_key
from fhi_al.errors import InputError, UnconvergedError
from fhi_al.reference.engine import engine_class
from fhi_al.reference.rescue import RescuingEngine
from fhi_al.settings.reference import AseSettings, AsiSettings, XtbSettings

PYSCF = "fhi_al.reference.pyscf.PySCF"


def start(tmp_path, settings, control=None) -> RescuingEngine:
    kind = engine_class(settings.engine)
    return RescuingEngine(kind, settings, control, ASI_ELEMENTS, None, tmp_path, 0.1)


def test_xtb_is_rescued(tmp_path, water):
    normal = XtbSettings(max_iterations=1)
    rescues = [{"mixer_damping": 0.3}, {"max_iterations": 2.0}, {"max_iterations": 100}]
    label = start(tmp_path, XtbSettings(max_iterations=1, scf_rescue=rescues)).label(water)
    assert label.provenance["rescue"] == "max_iterations 100"
    assert label.provenance["attempts"] == 4
    kind = engine_class("xtb")
    # What is rescued has the key that the journal asked for, and the energy of any other.
    assert label.key == structure_key(water, kind.digest(normal, None, ["H"]))
    assert label.energy == start(tmp_path, XtbSettings()).label(water).energy
    assert "rescue" not in start(tmp_path, XtbSettings()).label(water).provenance


def test_the_story_of_all_attempts_is_told(tmp_path, water):
    rescues = [{"max_iterations": 2}, {"max_iterations": 3, "accuracy": 0.1}]
    with pytest.raises(UnconvergedError) as error:
        start(tmp_path, XtbSettings(max_iterations=1, scf_rescue=rescues)).label(water)
    story = str(error.value).split("; ")
    assert error.value.attempts == len(story) == 3
    assert "not converged in 1 cycles" in story[0]
    assert story[1].startswith("with max_iterations 2: ")
    assert story[2].startswith("with max_iterations 3, accuracy 0.1: ")


def test_arguments_of_a_calculator_are_overridden(tmp_path, water):
    settings = AseSettings(
        calculator=PYSCF,
        arguments={"basis": "sto-3g", "max_cycle": 2},
        spin="spin",
        scf_rescue=[{"max_cycle": 50}],
    )
    label = start(tmp_path, settings).label(water)
    assert label.provenance["rescue"] == "max_cycle 50"
    with pytest.raises(InputError, match="unknown parameters max_cycles"):
        start(tmp_path, settings.model_copy(update={"scf_rescue": ({"max_cycles": 50},)}))


def test_the_library_starts_anew_for_each_attempt_and_after_it(tmp_path, toy_asi, water, ethanol):
    calls = tmp_path / "calls"
    control = asi_control(f"toy_unconverged_below 0.85\ntoy_call_log {calls}\nmixer pulay")
    close = Structure(water.numbers, water.positions * 0.8)
    settings = AsiSettings.model_construct(
        library=toy_asi,
        species_dir=SPECIES_DIR,
        scf_rescue=({}, {"charge_mix_param": "0.01", "mixer": "linear"}),
    )
    engine = start(tmp_path, settings, control)
    normal = engine.label(water)
    rescued = engine.label(close)
    assert rescued.provenance["rescue"] == "charge_mix_param 0.01, mixer linear"
    assert rescued.provenance["attempts"] == 3
    assert len(calls.read_text().splitlines()) == 4
    # The last one that was written is that of the attempt; afterwards it is the normal one again.
    text = (tmp_path / "control.in").read_text()
    assert "charge_mix_param 0.01\n" in text
    assert "mixer pulay" not in text
    again = engine.label(water)
    assert "charge_mix_param" not in (tmp_path / "control.in").read_text()
    assert "rescue" not in again.provenance
    assert again.energy == normal.energy
    np.testing.assert_array_equal(again.forces, normal.forces)
    engine.close()

    # What the rescue gives is what a library with these settings gives.
    plain = start(tmp_path, settings, control.with_keywords({"toy_unconverged_below": None}))
    assert plain.label(close).energy == rescued.energy
    plain.close()


def test_no_attempt_is_left_out_when_all_fail(tmp_path, toy_asi, water):
    settings = AsiSettings.model_construct(
        library=toy_asi, species_dir=SPECIES_DIR, scf_rescue=({"sc_iter_limit": "500"},)
    )
    engine = start(tmp_path, settings, asi_control("toy_unconverged_below 9"))
    with pytest.raises(UnconvergedError, match="with sc_iter_limit 500: the SCF did not") as error:
        engine.label(water)
    assert error.value.attempts == 2
    engine.close()
