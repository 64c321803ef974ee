"""Real labels, from EMT, and the settings of tiny models; shared by the tests here."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from fhi_al.atoms.structure import Label, Structure, structure_key
from fhi_al.ensemble.members import Committee
from fhi_al.folder.run_folder import RunFolder
from fhi_al.handlers.train import train
from fhi_al.record.effects import Train
from fhi_al.record.events import ALL_MEMBERS, Entry, Trained

DIGEST = "emt"
TINY: dict[str, dict[str, Any]] = {
    "GENERAL": {"name_exp": "tiny", "default_dtype": "float64", "seed": 7},
    "ARCHITECTURE": {
        "r_max": 3.0,
        "num_channels": 4,
        "max_L": 0,
        "max_ell": 1,
        "num_radial_basis": 4,
        "correlation": 2,
        "radial_MLP": [8],
        "MLP_irreps": "4x0e",
    },
    "TRAINING": {"batch_size": 3, "valid_batch_size": 4},
}
ACTIVE: dict[str, dict[str, Any]] = {
    "REFERENCE": {"engine": "xtb"},
    "ACTIVE_LEARNING": {"initial_sampling": "perturb", "ensemble_size": 2},
}


def merged(*layers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sections of settings, later ones over earlier ones."""
    result: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, settings in layer.items():
            result[section] = {**result.get(section, {}), **settings}
    return result


def label(atoms: Atoms, **provenance: Any) -> Label:
    """What EMT says: a real potential with energy, forces and stress."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    structure = Structure.from_atoms(atoms)
    return Label(
        structure=structure,
        key=structure_key(structure, DIGEST),
        energy=atoms.get_potential_energy(),
        forces=atoms.get_forces(),
        stress=atoms.get_stress() if atoms.pbc.all() else None,
        provenance={"engine": "EMT", **provenance},
    )


@cache
def molecules(count: int = 12) -> tuple[Label, ...]:
    """Rattled ethanol."""
    return tuple(label(_rattled(molecule("CH3CH2OH"), seed)) for seed in range(count))


@cache
def crystals(count: int = 8) -> tuple[Label, ...]:
    """Rattled and strained copper-gold."""
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.symbols[0] = "Au"
    labels = []
    for seed in range(count):
        strained = _rattled(atoms, seed)
        strain = np.random.default_rng(seed).normal(scale=0.02, size=(3, 3))
        strained.set_cell(strained.cell @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        labels.append(label(strained))
    return tuple(labels)


def _rattled(atoms: Atoms, seed: int) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(0.08, seed=seed)
    return atoms


def geometry_in(atoms: Atoms) -> str:
    """The file as FHI-aims reads it; ASE is about to drop its own writer."""
    rows = [("lattice_vector", row, "") for row in atoms.cell] if atoms.pbc.any() else []
    rows += [
        ("atom", row, symbol) for row, symbol in zip(atoms.positions, atoms.symbols, strict=True)
    ]
    return "".join(f"{name} {x:.10f} {y:.10f} {z:.10f} {end}\n" for name, (x, y, z), end in rows)


def own_entries(labels: tuple[Label, ...], members: int = 2) -> list[Entry]:
    """Deal labels to members; every fourth of each is validated on."""
    return [
        Entry(item.key, index % members, "valid" if index // members % 4 == 3 else "train")
        for index, item in enumerate(labels)
    ]


def shared_entries(labels: tuple[Label, ...], n_valid: int = 4) -> list[Entry]:
    """All labels for all members; the last ones are validated on."""
    first_valid = len(labels) - n_valid
    return [
        Entry(item.key, ALL_MEMBERS, "train" if index < first_valid else "valid")
        for index, item in enumerate(labels)
    ]


def effect(entries: Sequence[Entry], **changes: Any) -> Train:
    """One epoch of active learning for both members, new ones, but for the changes."""
    asked = {
        "id": "train-0",
        "stage": "active_learning",
        "weights": None,
        "members": (0, 1),
        "epochs": 1,
        "entries": entries,
    }
    return Train(**{**asked, **changes})


def run(
    folder: RunFolder, asked: Train, committee: Committee | None = None
) -> tuple[Committee, Trained]:
    """Train to the end."""
    return finish(train(asked, folder, committee, "cpu"))


def finish(slices: Any) -> Any:
    """Run a generator to its end."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value
