"""Labelled structures in the users' files: any format of ASE to read, extended XYZ to write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from mace.tools import DefaultKeys

from fhi_al.atoms.structure import Label, Structure, structure_key
from fhi_al.atoms.voigt import to_voigt
from fhi_al.errors import InputError
from fhi_al.record.files import write_xyz

ENERGY, FORCES, STRESS = (
    key.value for key in (DefaultKeys.ENERGY, DefaultKeys.FORCES, DefaultKeys.STRESS)
)
_PREFIX = "fhi_al_"


@dataclass(frozen=True)
class Names:
    """What results are called in a file.

    Attributes:
        energy: in `Atoms.info`, or among the results of a calculation; likewise the others.
        forces: in `Atoms.arrays`.
        stress: in `Atoms.info`.
    """

    energy: str = ENERGY
    forces: str = FORCES
    stress: str = STRESS


def read_labels(path: Path, names: Names | None = None) -> tuple[list[Label], str]:
    """Read structures with energies and forces.

    Args:
        path: of a file that ASE reads. Energy in eV, forces in eV/Å and stress in eV/Å^3 are taken
            from REF_energy, REF_forces and REF_stress, or else from what ASE takes for the results
            of a calculation (`energy`, `forces`, `stress`).
        names: other names to take them from, and from nowhere else.

    Returns:
        The labels, and the digest that their keys are made with: it names the file's contents.

    Raises:
        InputError: the file can't be read, or a frame has no energy or no forces.
    """
    try:
        digest = "imported:" + hashlib.sha256(path.read_bytes()).hexdigest()
        frames = ase.io.read(path, index=":")
    except Exception as error:  # whatever ASE's many readers raise
        raise InputError(f"{path} can't be read as labelled structures: {error}") from error
    labels = []
    for index, atoms in enumerate(frames):
        energy, forces, stress = _results(atoms, names)
        values = [values for values in (energy, forces, stress) if values is not None]
        missing = [
            name for name, found in (("energy", energy), ("forces", forces)) if found is None
        ]
        if missing or not all(np.isfinite(value).all() for value in values):
            what = (
                f"has no {' and no '.join(missing)}"
                if missing
                else "has results that are not numbers"
            )
            wanted = names or Names()
            others = (
                "" if names else ", or the energy and forces of a calculation as ASE writes them"
            )
            raise InputError(
                f"{path}: structure {index} {what}; expected finite {wanted.energy} (eV) and "
                f"{wanted.forces} (eV/Å){others}. It has "
                f"{', '.join(_found(atoms)) or 'no results'}."
            )
        atoms.set_constraint()
        structure = Structure.from_atoms(atoms)
        provenance: dict[str, str | int | float] = {"source": path.name, "index": index}
        if "config_type" in atoms.info:
            provenance["config_type"] = str(atoms.info["config_type"])
        assert energy is not None
        labels.append(
            Label(
                structure=structure,
                key=structure_key(structure, digest),
                energy=float(energy),
                forces=np.asarray(forces),
                stress=_voigt(stress),
                provenance=provenance,
            )
        )
    if not labels:
        raise InputError(f"{path} holds no structure.")
    return labels, digest


def _results(atoms: Atoms, names: Names | None) -> tuple[Any, Any, Any]:
    results = dict(atoms.calc.results) if isinstance(atoms.calc, SinglePointCalculator) else {}
    # ASE takes for results whatever bears their plain names.
    energy, forces, stress = (
        results.get(getattr(names, name) if names else name)
        for name in ("energy", "forces", "stress")
    )
    names = names or Names()
    return (
        atoms.info.get(names.energy, energy),
        atoms.arrays.get(names.forces, forces),
        atoms.info.get(names.stress, stress),
    )


def _found(atoms: Atoms) -> list[str]:
    """What a structure carries besides atoms."""
    results = atoms.calc.results if isinstance(atoms.calc, SinglePointCalculator) else {}
    own = ("numbers", "positions")
    return [*atoms.info, *(name for name in atoms.arrays if name not in own), *results]


def _voigt(stress: Any) -> Any:
    if stress is None:
        return None
    values = np.asarray(stress, dtype=float).ravel()
    return values if len(values) == 6 else to_voigt(values.reshape(3, 3))


def write_labels(path: Path, labels: Iterable[tuple[Label, Mapping[str, Any]]]) -> None:
    """Write labels as extended XYZ, in the names that `mace_run_train` looks for.

    Args:
        path: of the file.
        labels: each with more to be told about it. Where it comes from is told in any case, under
            names that begin with `fhi_al_`.
    """
    write_xyz(path, [_frame(label, more) for label, more in labels])


def _frame(label: Label, more: Mapping[str, Any]) -> Atoms:
    atoms = label.structure.to_atoms()
    atoms.info[ENERGY] = label.energy
    atoms.arrays[FORCES] = np.array(label.forces)
    if label.stress is not None:
        atoms.info[STRESS] = np.array(label.stress)
    about = {"key": label.key, **label.provenance, **more}
    if "config_type" in about:
        atoms.info["config_type"] = about.pop("config_type")
    atoms.info.update({f"{_PREFIX}{name}": value for name, value in about.items()})
    return atoms
