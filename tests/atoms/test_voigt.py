"""Voigt order is ASE's."""

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from fhi_al.atoms.voigt import from_voigt, to_voigt


def test_the_order_is_ases():
    values = np.arange(1.0, 7.0)
    tensor = voigt_6_to_full_3x3_stress(values)
    np.testing.assert_array_equal(from_voigt(values), tensor)
    np.testing.assert_array_equal(to_voigt(tensor), values)
    np.testing.assert_array_equal(to_voigt(tensor), full_3x3_to_voigt_6_stress(tensor))


def test_many_at_once_are_each_for_itself():
    values = np.random.default_rng(0).normal(size=(2, 4, 6))
    tensors = from_voigt(values)
    assert tensors.shape == (2, 4, 3, 3)
    np.testing.assert_array_equal(to_voigt(tensors), values)
    np.testing.assert_array_equal(tensors[1, 2], voigt_6_to_full_3x3_stress(values[1, 2]))
