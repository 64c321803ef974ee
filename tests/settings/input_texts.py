"""Contents of input files that several tests use."""

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
