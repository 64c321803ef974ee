from __future__ import annotations

import os

import numpy as np
import pytest
from ase.build import bulk
from reference_cases import rattled

from fhi_al.atoms.structure import Structure
from fhi_al.errors import EngineError, InputError, UnconvergedError
from fhi_al.reference.ase import OUTPUT, AseEngine
from fhi_al.settings.control_in import ControlIn, parse_control
from fhi_al.settings.reference import AseSettings
from fhi_al.testing import check_engine

EMT = "ase.calculators.emt.EMT"
PYSCF = "fhi_al.reference.pyscf.PySCF"
FLAWED = "reference_calculators.Flawed"
HARMONIC = "reference_calculators.Harmonic"


def start(
    tmp_path, calculator: str, control: ControlIn | None = None, elements=("H", "O"), **settings
) -> AseEngine:
    return AseEngine(
        AseSettings(calculator=calculator, **settings), control, elements, None, tmp_path
    )


@pytest.fixture
def copper() -> Structure:
    atoms = bulk("Cu", cubic=True)
    strain = [[1.02, 0.01, 0], [0.01, 0.99, 0.03], [0, 0.03, 1.01]]
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return rattled(atoms)


def test_keeps_the_contract(tmp_path, copper):
    engine = start(tmp_path, EMT)
    digest = AseEngine.digest(AseSettings(calculator=EMT), None, ["Cu"])
    molecule = Structure(copper.numbers, copper.positions)
    # EMT's cutoff is not quite smooth.
    check_engine(engine, [copper, molecule], digest, step=1e-3, stress_tolerance=1e-4)


def test_pyscf_keeps_the_contract(tmp_path, water):
    settings = {"arguments": {"basis": "sto-3g"}, "charge": "charge", "spin": "spin"}
    engine = start(tmp_path, PYSCF, **settings)
    digest = AseEngine.digest(AseSettings(calculator=PYSCF, **settings), None, ["H", "O"])
    check_engine(engine, [water], digest, force_tolerance=1e-3)


def test_pyscf_agrees_with_pyscf(tmp_path, water):
    from pyscf import dft, gto

    molecule = gto.M(
        atom=[(s, p) for s, p in zip("OHH", water.positions, strict=True)],
        basis="6-31g",
        charge=1,
        spin=1,
        verbose=0,
    )
    expected = dft.UKS(molecule, xc="b3lyp").run(conv_tol=1e-9).e_tot * 27.211386
    engine = start(
        tmp_path,
        PYSCF,
        parse_control("charge 1\nspin collinear\nfixed_spin_moment 1\n"),
        arguments={"basis": "6-31g", "xc": "b3lyp"},
        charge="charge",
        spin="spin",
    )
    label = engine.label(water)
    assert label.energy == pytest.approx(expected, abs=1e-4)
    assert label.provenance["charge"] == 1
    assert label.provenance["unpaired"] == 1


def test_pyscf_takes_the_spin_of_isolated_atoms(tmp_path):
    engine = start(tmp_path, PYSCF, arguments={"basis": "6-31g"}, charge="charge", spin="spin")
    energies = {
        moment: engine.label(
            Structure([8], [[0, 0, 0]], magmoms=[float(moment)], charges=[0.0])
        ).energy
        for moment in (0, 2, 4)
    }
    assert min(energies, key=energies.get) == 2


def test_an_unconverged_pyscf_is_an_outcome(tmp_path, water):
    engine = start(tmp_path, PYSCF, arguments={"basis": "sto-3g", "max_cycle": 2})
    with pytest.raises(UnconvergedError, match="did not converge in 2 cycles"):
        engine.label(water)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calculator": "ase.calculators.nothing.EMT"}, "can't be imported"),
        ({"calculator": "ase.calculators.emt.Nothing"}, "can't be imported"),
        ({"calculator": PYSCF, "arguments": {"bases": "sto-3g"}}, "unknown parameters bases"),
        ({"calculator": PYSCF, "arguments": {"basis": "no-such"}}, "nothing for H, O"),
        ({"calculator": PYSCF, "elements": ["H", "U"], "arguments": {"basis": "6-31g"}}, "for U"),
        ({"calculator": PYSCF, "spin": "multiplicity"}, "unknown parameters multiplicity"),
        ({"calculator": PYSCF, "control": parse_control("charge 1")}, "REFERENCE.charge"),
    ],
)
def test_bad_settings_are_input_errors(tmp_path, settings, message):
    with pytest.raises(InputError) as error:
        start(tmp_path, **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("scf", UnconvergedError),
        ("failed", UnconvergedError),
        ("gpaw", UnconvergedError),
        ("setup", EngineError),
        ("bug", EngineError),
    ],
)
def test_tells_failed_calculations_from_broken_calculators(tmp_path, copper, error, kind):
    engine = start(tmp_path, FLAWED, arguments={"error": error})
    with pytest.raises(kind, match="Flawed"):
        engine.label(copper)


@pytest.mark.parametrize("flaw", ["sign", "yz-xy", "yz-xz", "xz-xy"])
def test_a_stress_of_another_kind_is_refused(tmp_path, copper, flaw):
    engine = start(tmp_path, FLAWED, arguments={"stress": flaw})
    with pytest.raises(EngineError, match="stress doesn't fit its energy"):
        engine.label(copper)


def test_periodic_structures_are_not_for_the_pyscf_calculator(tmp_path, silicon):
    with pytest.raises(EngineError, match="molecules"):
        start(tmp_path, PYSCF, elements=["Si"]).label(silicon)


def test_takes_the_energy_that_forces_derive_from(tmp_path, water):
    springs = 0.5 * float((water.positions**2).sum())
    assert start(tmp_path, HARMONIC).label(water).energy == pytest.approx(springs)
    plain = start(tmp_path, HARMONIC, energy="energy")
    assert plain.label(water).energy == pytest.approx(springs + 100)


def test_hands_over_charge_and_unpaired_electrons(tmp_path, water):
    names = {"charge": "total_charge", "spin": "multiplicity_minus_1"}
    springs = 0.5 * float((water.positions**2).sum())
    cation = start(tmp_path, HARMONIC, parse_control("charge 1"), **names)
    # An odd number of electrons: one is unpaired though nobody said so.
    assert cation.label(water).energy == pytest.approx(springs + 11)
    atom = Structure([8], [[0, 0, 0]], magmoms=[2.0], charges=[0.0])
    assert cation.label(atom).energy == pytest.approx(2)


def test_works_and_prints_in_its_own_folder(tmp_path, copper, capfd):
    here = os.getcwd()
    start(tmp_path, FLAWED).label(copper)
    assert os.getcwd() == here
    assert capfd.readouterr() == ("", "")
    assert "EMT is working" in (tmp_path / OUTPUT).read_text()


def test_says_once_what_a_calculator_lacks(tmp_path, copper, caplog):
    engine = start(tmp_path, HARMONIC)
    labels = [engine.label(copper), engine.label(copper)]
    assert [label.stress for label in labels] == [None, None]
    assert caplog.text.count("gives no stress") == 1
    assert np.isfinite(labels[0].energy)


def test_the_digest_names_what_decides_a_label():
    def digest(control: str = "", **settings) -> str:
        return AseEngine.digest(
            AseSettings(**{"calculator": EMT, **settings}), parse_control(control), ["H"]
        )

    others = {
        digest(),
        digest(calculator=PYSCF),
        digest(arguments={"a": 1}),
        digest(energy="energy"),
        digest("charge 1"),
    }
    assert len(others) == 5
    assert digest() == AseEngine.digest(AseSettings(calculator=EMT), None, ["O"])
