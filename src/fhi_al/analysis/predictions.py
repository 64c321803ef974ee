"""What models say about labelled structures, beside what the reference says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fhi_al.atoms.structure import FloatArray, IntArray
from fhi_al.errors import JournalError
from fhi_al.record.files import write_hdf5


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of some models for the structures of a dataset, one after the other.

    Attributes:
        members: numbers of the models.
        numbers: (atoms,) atomic numbers.
        ptr: (structures + 1,) structure `i` has the atoms `ptr[i]` to `ptr[i + 1] - 1`.
        true_energies: (structures,) of the reference, in eV.
        true_forces: (atoms, 3) of the reference, in eV/Å.
        true_stress: (structures, 6) of the reference, in eV/Å^3, ASE's sign and Voigt order; nan
            where it has none.
        energies: (models, structures) in eV.
        forces: (models, atoms, 3) in eV/Å.
        stress: (models, structures, 6) in eV/Å^3; nan where the reference has none.
    """

    members: IntArray
    numbers: IntArray
    ptr: IntArray
    true_energies: FloatArray
    true_forces: FloatArray
    true_stress: FloatArray
    energies: FloatArray
    forces: FloatArray
    stress: FloatArray

    def __len__(self) -> int:
        return len(self.true_energies)

    @property
    def sizes(self) -> IntArray:
        """Number of atoms of each structure."""
        return np.diff(self.ptr)

    @property
    def formulas(self) -> list[str]:
        """Chemical formula of each structure, in Hill's order."""
        from ase.data import chemical_symbols
        from ase.formula import Formula

        symbols = [chemical_symbols[number] for number in self.numbers]
        return [
            Formula.from_list(symbols[first:last]).format("hill")
            for first, last in zip(self.ptr[:-1], self.ptr[1:], strict=True)
        ]


def joined_predictions(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of the same models for several datasets, as for one."""
    ends = np.cumsum([0, *(part.ptr[-1] for part in parts)])
    starts = [part.ptr[:-1] + end for part, end in zip(parts, ends, strict=False)]
    return Predictions(
        members=parts[0].members,
        ptr=np.concatenate([*starts, ends[-1:]]),
        **{
            name: np.concatenate([getattr(part, name) for part in parts], axis=axis)
            for names, axis in (
                (("numbers", "true_energies", "true_forces", "true_stress"), 0),
                (("energies", "forces", "stress"), 1),
            )
            for name in names
        },
    )


def save_predictions(path: Path, sets: Mapping[Any, Predictions], run: str, weights: str) -> None:
    """Store predictions; durable when this returns.

    Args:
        path: of the HDF5 file.
        sets: name of a dataset -> predictions.
        run: name of the run.
        weights: checkpoint that they were made with.

    Raises:
        StorageError: the file can't be written.
    """

    def write(file: h5py.File) -> None:
        file.attrs["run"], file.attrs["weights"] = run, weights
        for name, predictions in sets.items():
            for field in fields(predictions):
                file[f"{name}/{field.name}"] = getattr(predictions, field.name)

    write_hdf5(path, write)


def load_predictions(path: Path, run: str, weights: str) -> dict[str, Predictions] | None:
    """Read predictions.

    Args:
        path: of the HDF5 file.
        run: name of the run that they must be of.
        weights: checkpoint that they must be made with.

    Returns:
        Name of a dataset -> predictions; None if there are none of this checkpoint.

    Raises:
        JournalError: the file can't be read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            if (file.attrs["run"], file.attrs["weights"]) != (run, weights):
                return None
            return {
                name: Predictions(**{field: values[()] for field, values in group.items()})
                for name, group in file.items()
            }
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError) as error:
        raise JournalError(
            f"{path} can't be read as predictions ({error}); remove it, and FHI_AL-report makes it "
            "again"
        ) from error
