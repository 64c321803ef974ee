"""Labels and structures come back bit for bit, and never with another geometry."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fhi_al.atoms.structure import Label, Structure, structure_key
from fhi_al.errors import JournalError
from fhi_al.record.labels import LabelStore, StructureStore

DIGEST = "engine"


def structure(**changes: object) -> Structure:
    random = np.random.default_rng(1)
    values: dict = {
        "numbers": [8, 1, 1],
        "positions": random.normal(size=(3, 3)),
        "cell": np.eye(3) * 5,
        "pbc": [True, True, False],
        "fixed": [True, False, False],
    }
    return Structure(**{**values, **changes})


def label(of: Structure) -> Label:
    return Label(
        structure=of,
        key=structure_key(of, DIGEST),
        energy=-1.0 / 3.0,
        forces=np.random.default_rng(2).normal(size=(3, 3)),
        stress=np.arange(6) / 7.0,
        provenance={"engine": "test", "seconds": 0.5, "trajectory": 3},
    )


def test_label_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    given = label(structure(magmoms=[1.0, 0, 0], charges=[0.5, 0, 0]))
    assert not store.has(given.key)
    store.put(given, DIGEST)
    found = LabelStore(tmp_path).get(given.key)
    assert found.energy == given.energy
    assert found.provenance == given.provenance
    np.testing.assert_array_equal(found.forces, given.forces)
    np.testing.assert_array_equal(found.stress, given.stress)  # type: ignore[arg-type]
    for name in ("numbers", "positions", "cell", "pbc", "magmoms", "charges", "fixed"):
        np.testing.assert_array_equal(
            getattr(found.structure, name), getattr(given.structure, name)
        )


def test_structure_carries_its_prediction(tmp_path: Path) -> None:
    store = StructureStore(tmp_path)
    forces = np.ones((3, 3)) / 3
    key = store.put(structure(), DIGEST, forces)
    found, predicted = store.get(key)
    np.testing.assert_array_equal(predicted, forces)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.positions, structure().positions)


def test_a_label_of_another_geometry_is_refused(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    given = label(structure())
    store.put(given, DIGEST)
    with h5py.File(store.path(given.key), "r+") as file:
        file["structure/positions"][0, 0] += 1e-12
    with pytest.raises(JournalError, match="another structure"):
        store.get(given.key)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    with pytest.raises(JournalError, match="missing"):
        store.get("ab" * 32)
    path = store.path("cd" * 32)
    path.parent.mkdir()
    path.write_bytes(b"no HDF5")
    with pytest.raises(JournalError, match="can't be read"):
        store.get("cd" * 32)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    bad = label(structure())
    object.__setattr__(bad, "provenance", {"thing": object()})
    with pytest.raises(TypeError):
        store.put(bad, DIGEST)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "changes",
    [
        {"numbers": [8, 1, 2]},
        {"positions": np.zeros((3, 3))},
        {"cell": np.eye(3) * 6},
        {"pbc": [True, True, True]},
        {"magmoms": [0.0, 0.0, 0.0]},
        {"charges": [0.0, 0.0, 0.0]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_key_depends_on_all_that_decides_a_label(changes: dict) -> None:
    assert structure_key(structure(), DIGEST) != structure_key(structure(**changes), DIGEST)
    assert structure_key(structure(), DIGEST) != structure_key(structure(), "other engine")


def test_key_depends_on_nothing_else() -> None:
    assert structure_key(structure(fixed=False), DIGEST) == structure_key(structure(), DIGEST)
    zeros, minus = np.zeros((3, 3)), -np.zeros((3, 3))
    assert structure_key(structure(positions=zeros), DIGEST) == structure_key(
        structure(positions=minus), DIGEST
    )


def test_structures_are_read_only_copies() -> None:
    positions = np.zeros((3, 3))
    made = structure(positions=positions)
    positions[0] = 1
    assert made.positions[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        made.positions[0, 0] = 1
