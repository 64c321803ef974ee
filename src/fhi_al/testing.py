"""Checks that a reference engine, ours or a user's own, keeps its contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fhi_al.atoms.structure import FloatArray, Label, Structure, structure_key
from fhi_al.atoms.voigt import from_voigt
from fhi_al.reference.engine import Engine


def check_engine(
    engine: Engine,
    structures: Sequence[Structure],
    digest: str,
    *,
    reproducible: bool = True,
    step: float = 0.005,
    force_tolerance: float = 0.005,
    stress_tolerance: float = 1e-4,
) -> None:
    """Check an engine on some structures; collective where the engine is.

    For each structure: shapes and finite numbers, the key, forces and stress against central
    differences of the energy, forces of fixed atoms, and at the end that the first label comes
    out the same after all the others.

    Args:
        engine: what is checked.
        structures: out of equilibrium, so that there are forces to compare; different
            compositions, molecules and crystals, as far as the engine does them.
        digest: the engine's `digest` for its settings and these structures' elements.
        reproducible: whether equal structures get bit-equal labels.
        step: displacement of the differences, in Å.
        force_tolerance: in eV/Å, on the force along a direction in which the atoms move by
            1 Å in all (root of the sum of squares).
        stress_tolerance: in eV/Å^3.

    Raises:
        AssertionError: with what was broken, got and expected.
    """
    rng = np.random.default_rng(1)
    labels = [engine.label(structure) for structure in structures]
    for number, (structure, label) in enumerate(zip(structures, labels, strict=True)):
        where = f"structure {number}"
        _check_numbers(where, structure, label, digest)
        _check_forces(where, engine, structure, label, rng, step, force_tolerance)
        if label.stress is not None:
            _check_stress(where, engine, structure, label, rng, step, stress_tolerance)

    exact = 0.0 if reproducible else 1.0
    first = structures[0]
    again = engine.label(first)
    _check_close("energy of a label computed again", again.energy, labels[0].energy, exact * 1e-3)
    _check_close("forces of a label computed again", again.forces, labels[0].forces, exact * 2e-3)
    fixed = dataclasses.replace(first, fixed=np.ones(len(first), dtype=bool))
    _check_close(
        "forces of fixed atoms (constraints must not be applied)",
        engine.label(fixed).forces,
        labels[0].forces,
        exact * 2e-3,
    )


def _check_numbers(where: str, structure: Structure, label: Label, digest: str) -> None:
    assert label.key == structure_key(structure, digest), (
        f"{where}: the label's key is not structure_key(structure, digest)"
    )
    assert label.structure is structure, f"{where}: the label belongs to another structure"
    assert np.isfinite(label.energy), f"{where}: the energy is {label.energy}"
    assert np.isfinite(label.forces).all(), f"{where}: forces are not finite"
    assert label.stress is None or structure.periodic, f"{where}: a molecule has no stress"
    assert label.stress is None or np.isfinite(label.stress).all(), f"{where}: stress not finite"
    for name in ("engine", "method", "seconds", "host"):
        assert name in label.provenance, f"{where}: provenance has no {name}"
    for name, value in label.provenance.items():
        assert isinstance(value, str | int | float), f"{where}: provenance {name} is {value!r}"


def _check_forces(
    where: str,
    engine: Engine,
    structure: Structure,
    label: Label,
    rng: np.random.Generator,
    step: float,
    tolerance: float,
) -> None:
    for _ in range(2):
        direction = rng.normal(size=(len(structure), 3))
        direction /= np.linalg.norm(direction)
        energies = [
            engine.label(
                dataclasses.replace(structure, positions=structure.positions + sign * direction)
            ).energy
            for sign in (step, -step)
        ]
        slope = (energies[0] - energies[1]) / (2 * step)
        along = float((label.forces * direction).sum())
        _check_close(f"{where}: force (eV/Å) against -dE/dx", along, -slope, tolerance)


def _check_stress(
    where: str,
    engine: Engine,
    structure: Structure,
    label: Label,
    rng: np.random.Generator,
    step: float,
    tolerance: float,
) -> None:
    assert label.stress is not None
    stress = from_voigt(label.stress)
    volume = abs(np.linalg.det(structure.cell))
    size = volume ** (1 / 3)
    for _ in range(2):
        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
        energies = [
            engine.label(_strained(structure, sign * step / size * strain)).energy
            for sign in (1, -1)
        ]
        slope = (energies[0] - energies[1]) / (2 * step / size) / volume
        along = float((stress * strain).sum())
        _check_close(f"{where}: stress (eV/Å^3) against dE/dε/V", along, slope, tolerance)


def _strained(structure: Structure, strain: FloatArray) -> Structure:
    deformation = np.eye(3) + strain
    return dataclasses.replace(
        structure,
        positions=structure.positions @ deformation,
        cell=structure.cell @ deformation,
    )


def _check_close(
    what: str, got: float | FloatArray, expected: float | FloatArray, tolerance: float
) -> None:
    error = float(np.max(np.abs(np.asarray(got) - np.asarray(expected))))
    assert error <= tolerance, f"{what}: got {got}, expected {expected}, allowed {tolerance}"
