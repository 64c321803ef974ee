import contextlib
import warnings

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from hypothesis import given, settings
from hypothesis import strategies as st
from input_texts import SILICON, WATER

from fhi_al.atoms.structure import Structure
from fhi_al.errors import InputError
from fhi_al.settings.geometry_in import format_geometry, parse_geometry


def written_by_ase(path, atoms: Atoms, **options) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ase.io.write(path, atoms, format="aims", **options)
    return path.read_text()


@pytest.mark.parametrize("scaled", [False, True])
def test_reads_what_ase_wrote(tmp_path, scaled):
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.1, seed=1)
    structure, velocities = parse_geometry(
        written_by_ase(tmp_path / "geometry.in", atoms, scaled=scaled)
    )
    assert velocities is None
    np.testing.assert_array_equal(structure.numbers, atoms.numbers)
    np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-12)
    np.testing.assert_allclose(structure.cell, atoms.cell.array, atol=1e-12)
    assert structure.pbc.all()


def test_constraints_velocities_and_moments_are_kept(tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.set_initial_magnetic_moments(np.arange(9) * 0.5)
    atoms.set_constraint(FixAtoms([2, 5]))
    speeds = np.random.default_rng(0).normal(size=(9, 3))
    speeds[[2, 5]] = 0
    atoms.set_velocities(speeds)
    structure, velocities = parse_geometry(
        written_by_ase(tmp_path / "geometry.in", atoms, write_velocities=True)
    )
    assert np.flatnonzero(structure.fixed).tolist() == [2, 5]
    np.testing.assert_allclose(structure.magmoms, np.arange(9) * 0.5)
    np.testing.assert_allclose(velocities, speeds * units.fs, atol=1e-12)


def test_velocities_are_in_angstrom_per_picosecond():
    _, velocities = parse_geometry("atom 0 0 0 H\nvelocity 1 -2 3\n")
    np.testing.assert_allclose(velocities, [[1e-3, -2e-3, 3e-3]], rtol=1e-12)


def test_moments_that_are_all_zero_are_kept_too():
    structure, _ = parse_geometry("atom 0 0 0 O\ninitial_moment 0\natom 0 0 1.2 O\n")
    assert structure.magmoms.tolist() == [0, 0]
    assert structure.charges is None


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("cell", [None, np.eye(3) * 4.0 + 1 / 7])
def test_what_was_written_is_read(exact, cell):
    """For people rounded, with the choice of a zero and what is fixed; for FHI-aims exact."""
    structure = Structure(
        [8, 1, 1],
        [[0, 0, 1 / 9], [0, 1 / 1.3, -1e-5 / 3], [0, 0, 1.3]],
        **({} if cell is None else {"cell": cell, "pbc": [True] * 3}),
        magmoms=[0, 0, 0],
        charges=[-0.1, 0, 1 / 3],
        fixed=[True, False, True],
    )
    read, velocities = parse_geometry(format_geometry(structure, exact=exact))
    assert velocities is None
    assert read.numbers.tolist() == [8, 1, 1]
    assert read.pbc.tolist() == structure.pbc.tolist()
    atol = 0 if exact else 5.1e-9
    np.testing.assert_allclose(read.positions, structure.positions, rtol=0, atol=atol)
    np.testing.assert_allclose(read.cell, structure.cell, rtol=0, atol=atol)
    np.testing.assert_allclose(read.charges, structure.charges, rtol=0, atol=0 if exact else 5.1e-7)
    if exact:
        assert read.magmoms is None
        assert not read.fixed.any()
    else:
        assert read.magmoms.tolist() == [0, 0, 0]
        assert read.fixed.tolist() == [True, False, True]


def test_a_slab_cannot_be_written():
    slab = Structure([1], [[0, 0, 0]], np.eye(3), [True, True, False])
    with pytest.raises(InputError, match="three lattice vectors"):
        format_geometry(slab)


def test_comments_do_not_matter():
    structure, _ = parse_geometry("# water\n" + WATER.replace("H\n", "H#light\n"))
    assert structure.numbers.tolist() == [8, 1, 1]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no atoms"),
        ("atom 0 0 0 Hh\n", "line 1: species 'Hh' is not a chemical symbol"),
        ("atom 0 0 0 X\n", "not a chemical symbol"),
        ("atom 0 0 H\n", "line 1: atom needs three coordinates"),
        ("atom 0 0 one H\n", "got 'one', expected a number"),
        ("atom 0 0 nan H\n", "finite"),
        ("atom 0 0 inf H\n", "finite"),
        ("atom 0 0 0 H\natom 0 0 0.1 H\n", "lines 1 and 2: these atoms are 0.100 Å apart"),
        ("atom 0 0 0 H\nconstrain_relaxation x\n", "line 2: .*fixed as a whole"),
        ("atom 0 0 0 H\nconstrain_relaxation .TRUE.\n", "fixed as a whole"),
        (SILICON.replace("atom_frac", "constrain_relaxation .true.\natom_frac", 1), "lattice"),
        ("initial_moment 1\natom 0 0 0 H\n", "line 1: initial_moment belongs to an atom"),
        ("atom 0 0 0 H\ninitial_moment 1\ninitial_moment 1\n", "another initial_moment"),
        ("atom 0 0 0 H\nvelocity 0 0 0\natom 0 0 1 H\n", "line 3: this atom has no velocity"),
        ("atom 0 0 0 H\nvelocity 1 0 0\nconstrain_relaxation .true.\n", "fixed atom"),
        ("lattice_vector 1 0 0\natom 0 0 0 H\n", "got 1 lattice_vector"),
        ("lattice_vector 4 0 0\n" * 3 + "atom 0 0 0 H\n", "no volume"),
        (
            "lattice_vector .2 0 0\nlattice_vector 0 9 0\nlattice_vector 0 0 9\natom 0 0 0 H\n",
            "own",
        ),
        ("atom_frac 0 0 0 H\n", "atom_frac needs three"),
        (SILICON + "atom 2 2 2 Si\n", "can't be mixed"),
        (WATER + "homogeneous_field 0 0 1\n", "line 4: homogeneous_field: an external field"),
        (WATER + "multipole 0 0 5 0 1\n", "multipole"),
        (WATER + "empty 1 1 1 H\n", "ghost"),
        (WATER + "hessian_block 1 1 1\n", "relaxations"),
        (WATER + "trust_radius 0.2\n", "relaxations"),
        (SILICON + "symmetry_n_params 1 1 0\n", "parametric"),
        (WATER + "initial_momnet 1\n", "did you mean initial_moment"),
        (WATER + "nonsense\n", "nonsense is not supported"),
    ],
)
def test_what_would_be_lost_or_misread_is_refused(text, what):
    with pytest.raises(InputError, match=what) as error:
        parse_geometry(text)
    assert len(error.value.problems) == 1


def test_overlap_through_the_periodic_boundary():
    cell = "lattice_vector 9 0 0\nlattice_vector 0 9 0\nlattice_vector 0 0 9\n"
    with pytest.raises(InputError, match=r"lines 4 and 5: these atoms are 0\.200"):
        parse_geometry(cell + "atom 0 0 0 H\natom 0 0 8.8 H\n")


def test_every_problem_is_told_at_once():
    with pytest.raises(InputError) as error:
        parse_geometry("atom 0 0 z Q\nempty 1 1 1 H\nlattice_vector 1 1\n")
    assert len(error.value.problems) == 5


word = (
    st.sampled_from(
        [
            "atom",
            "atom_frac",
            "lattice_vector",
            "velocity",
            "initial_moment",
            "constrain_relaxation",
        ]
    )
    | st.sampled_from(["H", "0", "1.5", "-3", "nan", ".true.", "x", "#", "1e9"])
    | st.text(max_size=4)
)


@settings(deadline=None)
@given(st.lists(st.lists(word, max_size=6).map(" ".join), max_size=8).map("\n".join))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(InputError):
        structure, _ = parse_geometry(text)
        assert len(structure) == text.count("atom")
