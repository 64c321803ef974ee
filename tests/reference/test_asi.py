from __future__ import annotations

import os
import subprocess
from pathlib import Path

import ase.io
import numpy as np
import pytest
from asi_library.build import HERE, SPECIES_DIR, compile_library
from reference_cases import ASI_ELEMENTS as ELEMENTS
from reference_cases import asi_control as control_in
from reference_cases import rattled

from fhi_al.atoms.structure import Structure, structure_key
from fhi_al.errors import EngineError, InputError, UnconvergedError
from fhi_al.reference.asi import OUTPUT, AsiEngine, library_problem
from fhi_al.settings.geometry_in import format_geometry
from fhi_al.settings.reference import AsiSettings
from fhi_al.testing import check_engine


def asi_settings(library: Path, **settings) -> AsiSettings:
    return AsiSettings.model_construct(library=library, species_dir=SPECIES_DIR, **settings)


@pytest.fixture
def start(toy_asi, tmp_path):
    """Starts engines, and ends them: there is one library in this process."""
    engines = []

    def start(text: str = "", library: Path = toy_asi, **settings) -> AsiEngine:
        for engine in engines:
            engine.close()
        asi = asi_settings(library, **settings)
        engines.append(AsiEngine(asi, control_in(text), ELEMENTS, None, tmp_path))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def atom(number: int, moment: float) -> Structure:
    return Structure(numbers=[number], positions=[[0, 0, 0]], magmoms=[moment], charges=[0.0])


def moved(structure: Structure) -> Structure:
    return rattled(structure.to_atoms(), 0.05)


def runs_since_start(tmp_path) -> int:
    return (tmp_path / "asi.log").read_text().count("run ")


def test_keeps_the_contract(start, toy_asi, ethanol, silicon, water):
    engine = start()
    digest = AsiEngine.digest(asi_settings(toy_asi), control_in(), ELEMENTS)
    check_engine(
        engine,
        [ethanol, silicon, water],
        digest,
        step=1e-3,
        force_tolerance=1e-4,
        stress_tolerance=1e-6,
    )


def test_three_ranks_agree_with_one_and_with_each_other(mpirun, start, toy_asi, tmp_path, silicon):
    alone = start().label(silicon)
    result = mpirun(3, "asi_ranks.py", toy_asi, tmp_path)
    energy, force = (float(word) for word in result.split())
    assert energy == pytest.approx(alone.energy, abs=1e-8)
    assert force == pytest.approx(alone.forces[0, 0], abs=1e-8)


def test_the_toy_aborts_where_a_real_code_would(mpirun, run_python, toy_asi, tmp_path):
    def case(name: str) -> tuple[object, ...]:
        return "asi_aborts.py", toy_asi, tmp_path, name

    with pytest.raises(subprocess.CalledProcessError) as failed:
        mpirun(2, *case("ranks"))
    assert "the geometry is not the same on all ranks" in failed.value.stderr
    for name, message in {
        "species": "no species block for Si",
        "keyword": "unknown keyword relax_geometry",
        "abort": "two atoms at",
    }.items():
        with pytest.raises(subprocess.CalledProcessError) as failed:
            run_python(*case(name))
        assert message in failed.value.stderr


def test_an_unconverged_scf_is_an_outcome(start, toy_asi, tmp_path, ethanol, water):
    close = Structure(numbers=water.numbers, positions=water.positions * 0.8)
    engine = start("toy_unconverged_below 0.85")
    before = engine.label(ethanol)
    with pytest.raises(UnconvergedError, match="SCF did not converge"):
        engine.label(close)
    good = engine.label(water)
    # The failed density is not the start of the next calculation, though the atoms are the same.
    assert runs_since_start(tmp_path) == 1
    assert good.energy == start().label(water).energy
    for text, is_its_key in (("toy_unconverged_below 0.85", True), ("", False)):
        digest = AsiEngine.digest(asi_settings(toy_asi), control_in(text), ELEMENTS)
        assert (structure_key(ethanol, digest) == before.key) == is_its_key


def test_lives_as_long_as_the_atoms_are_the_same(start, tmp_path, water, silicon):
    engine = start()
    for expected, structure in (
        (1, water),
        (2, moved(water)),
        (1, silicon),
        (1, water),
        (1, Structure(water.numbers[::-1], water.positions[::-1])),
    ):
        engine.label(structure)
        # The first periodic label comes with the check of its stress.
        checked = structure is silicon
        assert runs_since_start(tmp_path) == expected + checked


def test_a_fresh_density_each_time_on_request(start, tmp_path, water):
    engine = start(reuse_density=False)
    for structure in (water, moved(water)):
        engine.label(structure)
        assert runs_since_start(tmp_path) == 1


def test_isolated_atoms_have_their_own_spin_and_charge(start):
    engine = start("charge 1\nspin collinear\nfixed_spin_moment 1\ndefault_initial_moment 1")
    oxygen = {moment: engine.label(atom(8, moment)).energy for moment in (0, 2, 4)}
    assert min(oxygen, key=oxygen.get) == 2
    assert oxygen[2] == pytest.approx(-2040.0, abs=1e-4)
    assert engine.label(atom(1, 1)).energy == pytest.approx(-13.6, abs=1e-4)


def test_moments_and_charge_of_the_file_reach_the_library(start, water):
    neutral = start().label(water).energy
    charged = start("charge -1").label(water).energy
    moment = Structure(water.numbers, water.positions, magmoms=[0, 0.5, 1.5])
    polarised = start("spin collinear").label(moment).energy
    # As toy_asi.c has it: 3 eV times the charge squared, 0.5 eV times the moment squared.
    assert charged - neutral == pytest.approx(3.0, abs=1e-6)
    assert polarised - neutral == pytest.approx(2.0, abs=1e-6)


def test_prints_nothing_and_stays_where_it_is(start, tmp_path, water, capfd):
    here = os.getcwd()
    start().label(water)
    assert os.getcwd() == here
    assert capfd.readouterr() == ("", "")
    assert "toy_asi starts" in (tmp_path / OUTPUT).read_text()


@pytest.mark.filterwarnings("ignore:FHI-aims IO is moving:FutureWarning")
def test_geometry_in_is_exact(tmp_path, water, silicon):
    magnetic = Structure(water.numbers, water.positions, magmoms=[0, 1, -1], charges=[0, 0.5, 0])
    for structure in (magnetic, silicon):
        (tmp_path / "geometry.in").write_text(format_geometry(structure, exact=True))
        read = ase.io.read(tmp_path / "geometry.in", format="aims")
        assert np.array_equal(read.positions, structure.positions)
        assert np.array_equal(read.cell.array, structure.cell)
        assert read.get_chemical_symbols() == structure.to_atoms().get_chemical_symbols()
        if structure.magmoms is not None:
            assert np.array_equal(read.get_initial_magnetic_moments(), structure.magmoms)
            assert np.array_equal(read.get_initial_charges(), structure.charges)


def test_a_slab_without_third_vector_is_refused(start, silicon):
    slab = Structure(silicon.numbers, silicon.positions, silicon.cell, [True, True, False])
    with pytest.raises(EngineError, match="three lattice vectors"):
        start().label(slab)


@pytest.fixture(scope="module")
def bad_libraries(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("bad")
    text = folder / "text.so"
    text.write_text("not a library")
    (folder / "empty.c").write_text("int nothing_to_see = 1;\n")
    (folder / "foreign.c").write_text("int MPI_Comm_size(void) { return 0; }\n")
    foreign = compile_library(folder / "libforeign.so", folder / "foreign.c", "-nostdlib")
    return {
        "missing": (folder / "nowhere.so", "is not there"),
        "folder": (folder, "is not there"),
        "text": (text, "can't be loaded"),
        "symbols": (
            compile_library(folder / "empty.so", folder / "empty.c"),
            "lacks ASI_init, ASI_run",
        ),
        "one symbol": (
            compile_library(folder / "half.so", HERE / "toy_asi.c", "-DASI_run=toy_run"),
            "lacks ASI_run;",
        ),
        "dftb+": (
            compile_library(folder / "flavour.so", HERE / "toy_asi.c", "-DTOY_FLAVOUR=2"),
            "ASI_flavour 2",
        ),
        "other MPI": (
            compile_library(
                folder / "other.so",
                HERE / "toy_asi.c",
                "-Wl,--no-as-needed",
                str(foreign),
                "-Wl,--as-needed",
            ),
            "libforeign.so, but mpi4py runs on",
        ),
    }


@pytest.mark.parametrize(
    "case", ["missing", "folder", "text", "symbols", "one symbol", "dftb+", "other MPI"]
)
def test_a_bad_library_is_an_input_error(start, bad_libraries, case):
    library, message = bad_libraries[case]
    with pytest.raises(InputError) as error:
        start(library=library)
    assert message in str(error.value)
    assert str(library) in str(error.value)


def test_a_good_library_has_no_problem(toy_asi):
    assert library_problem(toy_asi) is None


def test_does_without_what_libraries_may_lack(start, tmp_path, silicon):
    library = compile_library(
        tmp_path / "lean.so",
        HERE / "toy_asi.c",
        "-DASI_stress=toy_stress",
        "-DASI_is_scf_converged=toy_converged",
    )
    label = start(library=library).label(silicon)
    assert label.stress is None
    assert label.energy == start().label(silicon).energy


def test_a_library_for_molecules_only_says_so(start, tmp_path, silicon, water):
    library = compile_library(
        tmp_path / "molecules.so", HERE / "toy_asi.c", "-DASI_set_geometry=toy_set_geometry"
    )
    engine = start(library=library)
    assert engine.label(water).energy == start().label(water).energy
    with pytest.raises(EngineError, match="ASI_set_geometry"):
        start(library=library).label(silicon)


def test_a_missing_control_in_or_species_is_an_input_error(toy_asi, tmp_path):
    settings = AsiSettings.model_construct(library=toy_asi, species_dir=SPECIES_DIR)
    with pytest.raises(InputError, match=r"control\.in is missing"):
        AsiEngine(settings, None, ELEMENTS, None, tmp_path)
    with pytest.raises(InputError, match="species He"):
        AsiEngine(settings, control_in(), ["H", "He"], None, tmp_path)


def test_the_digest_names_what_decides_a_label(toy_asi, tmp_path):
    def digest(control: str = "", elements=("H", "O"), species=SPECIES_DIR, **settings) -> str:
        asi = AsiSettings.model_construct(species_dir=species, **{"library": toy_asi, **settings})
        return AsiEngine.digest(asi, control_in(control), elements)

    tight = tmp_path / "tight"
    tight.mkdir()
    for path in SPECIES_DIR.iterdir():
        (tight / path.name).write_text(path.read_text() + "    radial_multiplier 2\n")
    assert digest() == digest(elements=("O", "H", "H"))
    assert digest() == digest(library=Path("/elsewhere.so"), reuse_density=False, log="other")
    assert digest("charge  1.0 # a cation\n") == digest("charge 1.0")
    assert len({digest(), digest("charge 1"), digest(species=tight)}) == 3


def test_the_process_stays_small(run_python, toy_asi, tmp_path):
    out = run_python("asi_small.py", toy_asi, tmp_path)
    assert out.split() == ["no", "torch"]


@pytest.mark.parametrize(("how", "starts"), [("overlap", 2), ("sequential", 12)])
def test_labels_of_one_composition_save_starts(run_python, toy_asi, tmp_path, how, starts):
    """Twelve labels of two molecules in turn; where runs must be the same, the order is kept."""
    n_labels, n_starts = run_python("asi_batching.py", toy_asi, tmp_path, how).split()
    assert int(n_labels) == 12
    assert int(n_starts) == starts
