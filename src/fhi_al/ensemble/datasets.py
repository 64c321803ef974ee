"""The datasets of a run in the formats of other programs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fhi_al.analysis.finished_run import FinishedRun
from fhi_al.atoms.structure import Label
from fhi_al.ensemble.data import configuration, member_keys
from fhi_al.ensemble.frames import write_labels
from fhi_al.errors import InputError
from fhi_al.record.events import ALL_MEMBERS
from fhi_al.record.exports import DATASET_FORMATS
from fhi_al.record.files import write_file
from fhi_al.record.files import write_hdf5 as write_hdf5_file


def write_datasets(run: FinishedRun, formats: Sequence[str], target: Path) -> list[Path]:
    """Write what all members together train and validate on, and the sanity checks.

    Args:
        run: whose labels they are; it may go on meanwhile.
        formats: keys of `DATASET_FORMATS`.
        target: folder of the files.

    Returns:
        The files: `train`, `valid` and, if there were any, `audit`; one of ASE's databases with
        `split` to choose by.

    Raises:
        InputError: there are no labels yet.
    """
    entries = run.state.books.entries
    train, valid = member_keys(entries, ALL_MEMBERS, union=True)
    audit = list(dict.fromkeys(entry.key for entry in entries if entry.split == "audit"))
    sets = {"train": train, "valid": valid, "audit": audit}
    if not any(sets.values()):
        raise InputError(f"{run.root}: there are no labels in the datasets yet; try later")
    labels = {name: [run.labels.get(key) for key in keys] for name, keys in sets.items() if keys}
    return [path for name in formats for path in DATASET_FORMATS[name].load()(labels, target)]


Sets = dict[str, list[Label]]


def write_extxyz(sets: Sets, target: Path) -> Iterable[Path]:
    """Write one file for each set."""
    for name, labels in sets.items():
        path = target / f"{name}.xyz"
        write_labels(path, ((label, {}) for label in labels))
        yield path


def write_hdf5(sets: Sets, target: Path) -> Iterable[Path]:
    """Write what `mace_run_train --train_file train.h5 --valid_file valid.h5` reads."""
    from mace.data import save_configurations_as_HDF5

    def write(labels: list[Label], file: Any) -> None:
        save_configurations_as_HDF5([configuration(label) for label in labels], 0, file)
        file.attrs["drop_last"] = False

    for name, labels in sets.items():
        path = target / f"{name}.h5"
        write_hdf5_file(path, partial(write, labels))
        yield path


def write_database(sets: Sets, target: Path) -> Iterable[Path]:
    """Write all sets into one file, with `split` to tell them apart."""
    import ase.db
    from ase.calculators.singlepoint import SinglePointCalculator

    path = target / "labels.db"
    with tempfile.TemporaryDirectory() as folder:
        # SQLite writes no file but in place.
        temporary = Path(folder) / path.name
        with ase.db.connect(temporary) as database:
            for name, labels in sets.items():
                for label in labels:
                    atoms = label.structure.to_atoms()
                    results = {
                        "energy": label.energy,
                        "free_energy": label.energy,
                        "forces": np.array(label.forces),
                    }
                    if label.stress is not None:
                        results["stress"] = np.array(label.stress)
                    atoms.calc = SinglePointCalculator(atoms, **results)
                    about = {"key": label.key, **label.provenance}
                    database.write(atoms, split=name, data={"fhi_al": about})
        write_file(path, lambda file: file.write(temporary.read_bytes()))
    return [path]
