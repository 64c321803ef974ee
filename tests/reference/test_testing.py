"""The contract checks find what they are there to find."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fhi_al.atoms.structure import Label, Structure
from fhi_al.reference.engine import make_label
from fhi_al.testing import check_engine


class Springs:
    """Pairs of atoms on springs, with images in a cell of one atom; and with one flaw."""

    def __init__(self, flaw: str = "") -> None:
        self.flaw = flaw
        self.calls = 0

    def label(self, structure: Structure) -> Label:
        self.calls += 1
        if structure.periodic:
            vectors = structure.cell
            energy = 0.5 * float(((np.linalg.norm(vectors, axis=1) - 3) ** 2).sum())
            lengths = np.linalg.norm(vectors, axis=1)
            outer = [(r - 3) / r * np.outer(v, v) for v, r in zip(vectors, lengths, strict=True)]
            stress = (sum(outer) / abs(np.linalg.det(vectors)))[
                [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]
            ]
            forces = np.zeros((1, 3))
        else:
            d = structure.positions[1] - structure.positions[0]
            r = np.linalg.norm(d)
            energy, stress = 0.5 * (r - 1) ** 2, None
            forces = np.array([d, -d]) * (r - 1) / r
        if self.flaw == "force":
            forces = forces * 1.5
        if self.flaw == "stress" and stress is not None:
            stress = -stress
        if self.flaw == "constraints" and structure.fixed.any():
            forces = forces * 0
        if self.flaw == "memory":
            energy += 1e-6 * self.calls
        label = make_label(
            structure,
            "other" if self.flaw == "key" else "digest",
            energy=energy,
            forces=forces,
            stress=stress,
            engine="springs",
            method="harmonic",
            seconds=0.0,
        )
        if self.flaw == "structure":
            label = dataclasses.replace(label, structure=dataclasses.replace(structure))
        if self.flaw == "provenance":
            label = dataclasses.replace(label, provenance={})
        return label


DIMER = Structure([1, 1], [[0, 0, 0], [0.3, 0.5, 1.2]])
CRYSTAL = Structure([1], [[0, 0, 0]], [[3.1, 0.2, 0], [0, 2.8, 0.3], [0.1, 0, 3.3]], [True] * 3)


def test_a_good_engine_passes():
    check_engine(Springs(), [DIMER, CRYSTAL], "digest")


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("force", "structure 0: force"),
        ("stress", "structure 1: stress"),
        ("constraints", "constraints must not be applied"),
        ("memory", "energy of a label computed again"),
        ("key", "the label's key is not"),
        ("structure", "another structure"),
        ("provenance", "provenance has no engine"),
    ],
)
def test_a_flaw_is_found(flaw, message):
    with pytest.raises(AssertionError, match=message):
        check_engine(Springs(flaw), [DIMER, CRYSTAL], "digest")


def test_small_differences_pass_where_labels_are_not_reproducible():
    check_engine(Springs("memory"), [DIMER], "digest", reproducible=False)
