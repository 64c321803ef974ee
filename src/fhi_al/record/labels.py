"""Structures waiting for a label, and labels: one file each, named by the structure's key."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from fhi_al.atoms.structure import FloatArray, Label, Structure, structure_key
from fhi_al.errors import JournalError
from fhi_al.record.files import write_hdf5

_OPTIONAL = ("magmoms", "charges")


def _write_structure(file: h5py.File, structure: Structure) -> None:
    for name in ("numbers", "positions", "cell", "pbc", "fixed", *_OPTIONAL):
        array = getattr(structure, name)
        if array is not None:
            file[f"structure/{name}"] = array


def _read_structure(file: h5py.File) -> Structure:
    return Structure(**{name: values[()] for name, values in file["structure"].items()})


class _Store:
    """Files `<folder>/<first two characters>/<key>.h5`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the file of a key is, or would be."""
        return self.folder / key[:2] / f"{key}.h5"

    def has(self, key: str) -> bool:
        """Whether there is a file for this key."""
        return self.path(key).is_file()

    def _open(self, key: str) -> h5py.File:
        path = self.path(key)
        try:
            return h5py.File(path, "r", locking=False)
        except FileNotFoundError:
            raise JournalError(f"{path} is missing, though the journal names it") from None
        except OSError as error:
            raise JournalError(f"{path} can't be read: {error}") from error


class StructureStore(_Store):
    """Structures that were chosen to be labelled.

    Each carries the engine's digest, so that the key can be checked, and the forces that the
    committee predicted, so that its true error is known once the label is there.
    """

    def put(
        self, structure: Structure, engine_digest: str, forces: FloatArray | None = None
    ) -> str:
        """Store a structure.

        Args:
            structure: to be labelled.
            engine_digest: of the engine that will label it.
            forces: (atoms, 3) committee mean in eV/Å, or None.

        Returns:
            Its key.
        """
        key = structure_key(structure, engine_digest)

        def write(file: h5py.File) -> None:
            _write_structure(file, structure)
            file.attrs["engine_digest"] = engine_digest
            if forces is not None:
                file["predicted_forces"] = forces

        if not self.has(key):
            write_hdf5(self.path(key), write)
        return key

    def get(self, key: str) -> tuple[Structure, FloatArray | None]:
        """Read a structure and the (atoms, 3) forces predicted for it, if any, in eV/Å.

        Raises:
            JournalError: the file is missing, unreadable, or of another structure.
        """
        with self._open(key) as file:
            structure = _read_structure(file)
            digest = file.attrs["engine_digest"]
            forces = file["predicted_forces"][()] if "predicted_forces" in file else None
        if structure_key(structure, digest) != key:
            raise JournalError(f"{self.path(key)} holds another structure than its name says")
        return structure, forces


class LabelStore(_Store):
    """Finished labels, the most expensive thing that a user of this program owns."""

    def put(self, label: Label, engine_digest: str) -> None:
        """Store a label; durable when this returns.

        Args:
            label: to be stored under its key.
            engine_digest: of the engine that computed it; a reader recomputes the key with it.
        """

        def write(file: h5py.File) -> None:
            _write_structure(file, label.structure)
            file["energy"] = label.energy
            file["forces"] = label.forces
            if label.stress is not None:
                file["stress"] = label.stress
            file.attrs["engine_digest"] = engine_digest
            for name, value in label.provenance.items():
                file.attrs[f"provenance.{name}"] = value

        write_hdf5(self.path(label.key), write)

    def get(self, key: str) -> Label:
        """Read a label.

        Raises:
            JournalError: the file is missing, unreadable, or of another structure.
        """
        with self._open(key) as file:
            structure = _read_structure(file)
            label = Label(
                structure=structure,
                key=key,
                energy=file["energy"][()],
                forces=file["forces"][()],
                stress=file["stress"][()] if "stress" in file else None,
                provenance={
                    name.removeprefix("provenance."): _scalar(value)
                    for name, value in file.attrs.items()
                    if name.startswith("provenance.")
                },
            )
            digest = file.attrs["engine_digest"]
        if structure_key(structure, digest) != key:
            raise JournalError(f"{self.path(key)} holds a label of another structure")
        return label


def _scalar(value: object) -> str | int | float:
    if isinstance(value, np.generic):
        value = value.item()
    assert isinstance(value, (str, int, float))
    return value
