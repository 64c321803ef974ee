"""Contents of input files that several tests use, and what is wrong with them."""

from pathlib import Path

import pytest

from fhi_al.errors import InputError
from fhi_al.settings import load_inputs

WATER = """\
atom 0.0 0.0 0.119 O
atom 0.0 0.763 -0.477 H
atom 0.0 -0.763 -0.477 H
"""
SILICON = """\
lattice_vector 0.0 2.715 2.715
lattice_vector 2.715 0.0 2.715
lattice_vector 2.715 2.715 0.0
atom_frac 0.0 0.0 0.0 Si
atom_frac 0.25 0.25 0.25 Si
"""
SMALLEST = """\
REFERENCE: {engine: xtb}
ACTIVE_LEARNING: {initial_sampling: perturb}
MD: {temperature: 300}
"""
CONTROL = "xc pbe\n"
ASI = "ACTIVE_LEARNING: {aims_lib_path: libaims.so, species_dir: species}\n"


def problems_of(directory: Path) -> list[str]:
    """What loading refuses a folder for."""
    with pytest.raises(InputError) as error:
        load_inputs(directory)
    assert error.value.exit_code == 2
    return error.value.problems


def manual_keys() -> list[tuple[str, str, str]]:
    lines = (Path(__file__).parent / "manual_keys.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return [(file, section, key) for file, section, *keys in rows for key in keys]
