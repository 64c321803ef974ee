from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tblite.ase import TBLite

from fhi_al.atoms.structure import Structure
from fhi_al.errors import InputError, UnconvergedError
from fhi_al.reference.engine import engine_class
from fhi_al.settings.control_in import ControlIn, parse_control
from fhi_al.settings.reference import XtbSettings
from fhi_al.testing import check_engine

ELEMENTS = ["C", "H", "O", "Si"]


def start(tmp_path, control=None, elements=ELEMENTS, **settings):
    return engine_class("xtb")(XtbSettings(**settings), control, elements, None, tmp_path)


def control_in(charge: float = 0.0, unpaired: int | None = None) -> ControlIn:
    spin = "" if unpaired is None else f"spin collinear\nfixed_spin_moment {unpaired}\n"
    return parse_control(f"charge {charge}\n{spin}")


def atom(number: int, moment: float) -> Structure:
    return Structure(numbers=[number], positions=[[0, 0, 0]], magmoms=[moment], charges=[0.0])


def test_keeps_the_contract(tmp_path, ethanol, silicon):
    engine = start(tmp_path, accuracy=0.1)
    digest = engine.digest(XtbSettings(accuracy=0.1), None, ELEMENTS)
    check_engine(engine, [ethanol, silicon], digest)


@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB"])
def test_agrees_with_the_ase_calculator(tmp_path, method, ethanol, silicon):
    engine = start(tmp_path, method=method, electronic_temperature_K=500.0)
    for structure in (ethanol, silicon):
        label = engine.label(structure)
        atoms = structure.to_atoms()
        atoms.calc = TBLite(method=method, electronic_temperature=500.0, verbosity=0)
        assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        assert label.forces == pytest.approx(atoms.get_forces(), abs=1e-5)
        if structure.periodic:
            assert label.stress == pytest.approx(atoms.get_stress(), abs=1e-7)
        else:
            assert label.stress is None


def test_a_label_after_others_equals_a_fresh_one(tmp_path, ethanol, silicon, water):
    used = start(tmp_path)
    for other in (silicon, water, dataclasses.replace(ethanol, positions=ethanol.positions * 1.01)):
        used.label(other)
    late, fresh = used.label(ethanol), start(tmp_path).label(ethanol)
    assert late.key == fresh.key
    assert late.energy == fresh.energy
    assert np.array_equal(late.forces, fresh.forces)


def test_an_unconverged_scf_is_an_outcome(tmp_path, ethanol, capfd):
    engine = start(tmp_path, max_iterations=3)
    with pytest.raises(UnconvergedError, match="SCF not converged in 3 cycles"):
        engine.label(ethanol)
    overlapping = dataclasses.replace(ethanol, positions=np.zeros((9, 3)))
    with pytest.raises(UnconvergedError, match="distance"):
        engine.label(overlapping)
    assert capfd.readouterr() == ("", "")


def test_prints_nothing(tmp_path, silicon, capfd):
    start(tmp_path).label(silicon)
    assert capfd.readouterr() == ("", "")


def test_takes_charge_and_spin_from_control_in(tmp_path, water):
    hydroxide = Structure(numbers=water.numbers[:2], positions=water.positions[:2])
    for charge, unpaired in ((-1.0, None), (0.0, 1), (1.0, 2)):
        label = start(tmp_path, control_in(charge, unpaired)).label(hydroxide)
        atoms = hydroxide.to_atoms()
        atoms.calc = TBLite(charge=charge, multiplicity=(unpaired or 0) + 1, verbosity=0)
        assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


def test_the_structure_goes_before_control_in(tmp_path):
    charged = start(tmp_path, control_in(charge=1.0))
    neutral = start(tmp_path)
    assert charged.label(atom(8, 2)).energy == neutral.label(atom(8, 2)).energy


def test_an_impossible_spin_is_an_outcome_and_no_crash(tmp_path):
    engine = start(tmp_path)
    # 6 unpaired would need 6 orbitals of one spin, oxygen has 4; 1 has the wrong parity.
    for moment in (1, 4, 6, 7):
        with pytest.raises(UnconvergedError, match=f"can't have {moment} of them unpaired"):
            engine.label(atom(8, moment))
    assert engine.label(atom(8, 2)).energy < 0


def test_unknown_elements_are_an_input_error(tmp_path):
    start(tmp_path, elements=["H", "Rn"])
    with pytest.raises(InputError, match="GFN2-xTB has no parameters for Th, U"):
        start(tmp_path, elements=["U", "H", "Th"])


def test_the_digest_names_what_decides_a_label():
    digest = engine_class("xtb").digest
    settings = XtbSettings()
    assert digest(settings, None, ["H"]) == digest(settings, control_in(), ["H"])
    assert digest(settings, None, ["H"]) == digest(XtbSettings(max_iterations=99), None, ["H"])
    others = {
        digest(settings, None, ["H"]),
        digest(XtbSettings(method="GFN1-xTB"), None, ["H"]),
        digest(XtbSettings(accuracy=0.5), None, ["H"]),
        digest(XtbSettings(electronic_temperature_K=1.0), None, ["H"]),
        digest(settings, control_in(charge=1.0), ["H"]),
        digest(settings, control_in(unpaired=2), ["H"]),
    }
    assert len(others) == 6
