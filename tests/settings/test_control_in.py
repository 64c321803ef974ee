import pickle

import pytest

from fhi_al.errors import InputError
from fhi_al.settings.control_in import parse_control

TEXT = """\
# physics
xc pbe
spin collinear   # polarised
fixed_spin_moment 2.
charge -1.d0
relativistic atomic_zora scalar
k_grid 2 2 2
species H
  nucleus 1
  valence 1 s 1.
species O
  nucleus 8
compute_forces .true.
"""


def test_reads_charge_spin_and_species():
    control = parse_control(TEXT)
    assert control.charge == -1.0
    assert control.spin == "collinear"
    assert control.unpaired == 2.0
    assert list(control.species) == ["H", "O"]
    assert control.species["H"] == "species H\n  nucleus 1\n  valence 1 s 1.\n"
    assert pickle.loads(pickle.dumps(control)) == control


def test_defaults_are_a_neutral_restricted_calculation():
    control = parse_control("xc pbe\n")
    assert (control.charge, control.spin, control.unpaired) == (0.0, "none", None)


def test_multiplicity_is_unpaired_electrons_plus_one():
    assert parse_control("spin collinear\nmultiplicity 3\n").unpaired == 2


def test_text_passes_through_verbatim(tmp_path):
    (tmp_path / "06_C_default").write_text("  species C\n    nucleus 6\n")
    text = parse_control(TEXT).for_aims(["H", "C", "O"], periodic=True, species_dir=tmp_path)
    assert TEXT in text
    assert text.count("compute_forces") == 1  # the user's own line
    assert text.startswith("postprocess_anyway .true.\ncompute_analytical_stress .true.\n")
    assert text.endswith("  species C\n    nucleus 6\n")
    # What was written can be read again, and lacks nothing then.
    again = parse_control(text)
    assert set(again.species) == {"H", "C", "O"}
    assert again.for_aims(["C"], periodic=True).strip() == text.strip()


def test_molecules_get_no_stress(tmp_path):
    text = parse_control(TEXT).for_aims(["H"], periodic=False)
    assert "stress" not in text


def test_missing_species_are_all_named(tmp_path):
    control = parse_control("xc pbe\n")
    with pytest.raises(InputError) as error:
        control.for_aims(["H", "Au"], periodic=False, species_dir=tmp_path)
    assert len(error.value.problems) == 2
    assert "79_Au_default" in error.value.problems[1]
    with pytest.raises(InputError, match="no species_dir is given"):
        control.for_aims(["H"], periodic=False)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("MD_run 1.0 NVE", "moves the atoms itself"),
        ("MD_time_step 0.001", "moves the atoms itself"),
        ("relax_geometry bfgs 1e-2", "moves the atoms itself"),
        ("relax_unit_cell full", "moves the atoms itself"),
        ("max_relaxation_steps 5", "moves the atoms itself"),
        ("use_pimd_wrapper localhost 31415", "moves the atoms itself"),
        ("compute_forces .false.", "remove the line"),
        ("compute_forces true", "remove the line"),  # FHI-aims knows .true. only
        ("postprocess_anyway .false.", "remove the line"),
        ("charge one", "expected a number"),
        ("charge", "expected a number"),
        ("spin up", "expected none or collinear"),
        ("fixed_spin_moment 1", "needs `spin collinear`"),
    ],
)
@pytest.mark.parametrize("before", ["xc pbe\n", "species H\n  nucleus 1\n"])
def test_what_contradicts_this_program_is_named_with_its_line(line, what, before):
    with pytest.raises(InputError) as error:
        parse_control(before + "# comment\n\n" + line + "  # why\n")
    number = before.count("\n") + 3
    (problem,) = error.value.problems
    assert problem.startswith(f"control.in, line {number}: {line.split()[0]}")
    assert what in problem


def test_every_problem_is_told_at_once():
    with pytest.raises(InputError) as error:
        parse_control("MD_run 1\nrelax_geometry trm 1e-2\ncharge 1\ncharge 2\nspin collinear\n")
    assert len(error.value.problems) == 3
    assert "already given in line 3" in error.value.problems[2]


def test_relaxation_switched_off_is_no_relaxation():
    parse_control("relax_geometry none\nrelax_unit_cell none\n")


def test_stress_switched_off_matters_for_crystals_only():
    control = parse_control("compute_analytical_stress .false.\n")
    assert control.for_aims([], periodic=False)
    with pytest.raises(InputError, match="line 1"):
        control.for_aims([], periodic=True)


def test_unused_keywords_are_all_but_charge_and_spin():
    assert parse_control(TEXT).unused_keywords() == [
        "xc",
        "relativistic",
        "k_grid",
        "species H",
        "species O",
        "compute_forces",
    ]


def test_keywords_can_be_set_and_removed():
    changed = parse_control(TEXT).with_keywords(
        {"charge": None, "fixed_spin_moment": "1", "k_grid": None, "spin": "collinear"}
    )
    assert changed.charge == 0
    assert changed.unpaired == 1
    assert "k_grid" not in changed.text
    assert changed.species == parse_control(TEXT).species
