"""A dataset that is to be computed again: from its file to the one with the new labels."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fhi_al.atoms.structure import Structure, structure_key
from fhi_al.errors import InputError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.recalculation import RECALCULATION
from fhi_al.procedures.run import finished
from fhi_al.procedures.state import State
from fhi_al.record.events import Event, Sampled
from fhi_al.record.files import write_xyz
from fhi_al.run.controller import Listener
from fhi_al.run.task import Task
from fhi_al.settings import Inputs
from fhi_al.settings.geometries import Geometry
from fhi_al.settings.settle import engine_problems
from fhi_al.workers.layout import Layout, plan_layout

if TYPE_CHECKING:
    from ase import Atoms

log = logging.getLogger(__name__)

_RESULTS = ("energy", "free_energy", "forces", "stress", "virial", "virials", "dipole", "magmoms")


class Recalculation(Task):
    """Labels the structures of a file.

    Args:
        path: of the file, in any format of ASE.
        output: file of the results; None: beside it, named `<name>-recalculated.xyz`.
    """

    def __init__(self, path: Path, output: Path | None) -> None:
        super().__init__("recalculate")
        self._path, self._output = path, output
        self._dataset: Dataset

    def inputs(self, inputs: Inputs) -> Inputs:
        """What the folder asks for, with the structures of the dataset for geometries."""
        self._dataset = read_dataset(self._path, self._output)
        return self._dataset.inputs(inputs)

    def layout(self, inputs: Inputs, size: int) -> Layout:
        """Nothing is learned: all ranks but the controller compute."""
        groups = max(1, size - 1)
        if inputs.reference.parallel:
            groups = inputs.al.parallel.reference_groups
        return plan_layout(size, 1, groups, 0)

    def journal(self, folder: RunFolder) -> Path:
        """One for each dataset and reference."""
        return folder.journal.with_name(self._dataset.journal_name(folder.engine_digest))

    def is_over(self, state: State, *, retry: bool) -> bool:
        """Whether each structure has a label, or won't be tried again."""
        return finished(state) and not (retry and state.books.rejected)

    def begin(self, folder: RunFolder) -> None:
        """Leave nothing: the settings may be others than those of the run here."""

    def listeners(self, folder: RunFolder, state: State) -> Sequence[Listener]:
        """None: what was kept aside is the run's."""
        return ()

    def first_events(self, folder: RunFolder, state: State) -> Sequence[Event]:
        """The structures."""
        known = RECALCULATION.own(state).structures is not None
        return () if known else (store_structures(self._dataset, folder),)

    def report(self, folder: RunFolder, state: State, peaks: list[float]) -> None:
        """Write the dataset with its new labels."""
        write_results(self._dataset, state, folder)


@dataclass(frozen=True)
class Dataset:
    """Structures, each with what its file says about it.

    Attributes:
        path: of the file.
        digest: of its contents.
        frames: as ASE reads them, without results.
        structures: of the frames, without constraints.
        output: file of the recalculated structures.
    """

    path: Path
    digest: str
    frames: Sequence[Atoms]
    structures: Sequence[Structure]
    output: Path

    @property
    def rejected(self) -> Path:
        """File of the structures that the reference has no result for."""
        return self.output.with_name(f"{self.output.stem}-rejected.xyz")

    def journal_name(self, engine_digest: str) -> str:
        """Name of the journal: one for each dataset and reference.

        Args:
            engine_digest: of the reference.
        """
        both = hashlib.sha256(f"{self.digest} {engine_digest}".encode()).hexdigest()
        return f"recalculate-{both[:12]}.jsonl"

    def inputs(self, inputs: Inputs) -> Inputs:
        """What the user asked for, with the structures of the dataset for geometries.

        Raises:
            InputError: the reference can't do them.
        """
        geometries = tuple(
            Geometry(f"{self.path.name}#{number}", structure)
            for number, structure in enumerate(self.structures)
        )
        if problems := engine_problems(inputs.reference, inputs.control, geometries):
            raise InputError(problems)
        return replace(inputs, geometries=geometries)


def read_dataset(path: Path, output: Path | None) -> Dataset:
    """Read the structures to compute again.

    Args:
        path: a file in any format of ASE.
        output: file of the results; None: beside it, named `<name>-recalculated.xyz`.

    Raises:
        InputError: it can't be read, or is the output.
    """
    import ase.io

    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        frames = list(ase.io.read(path, index=":"))
    except Exception as error:  # whatever ASE's many readers raise
        raise InputError(f"{path} can't be read as structures: {error}") from error
    if not frames:
        raise InputError(f"{path} holds no structure.")
    output = output or path.with_name(f"{path.stem}-recalculated.xyz")
    if output.absolute() == path.absolute():
        raise InputError(f"{path} would be overwritten with the results; give another --output")
    for atoms in frames:
        _forget_results(atoms)
    structures = []
    for atoms in frames:
        free = atoms.copy()
        free.set_constraint()  # no matter to the reference
        structures.append(Structure.from_atoms(free))
    return Dataset(path.absolute(), digest, frames, structures, output.absolute())


def _forget_results(atoms: Atoms) -> None:
    """Remove what another reference has said."""
    atoms.calc = None
    for store in (atoms.info, atoms.arrays):
        for name in [*store]:
            if name.removeprefix("REF_") in _RESULTS or name.startswith("fhi_al_"):
                del store[name]


def store_structures(dataset: Dataset, folder: RunFolder) -> Sampled:
    """Write the structures to where the reference groups look for them.

    Args:
        dataset: to be computed.
        folder: of the run.

    Returns:
        The event that names them; equal structures are one.
    """
    digest = folder.engine_digest
    keys: dict[str, str] = {}
    for structure in dataset.structures:
        key = structure_key(structure, digest)
        if key not in keys and not folder.labels.has(key):
            folder.structures.put(structure, digest)
        keys[key] = structure.composition
    return Sampled("dataset", None, tuple(keys), 0.0, tuple(keys.values()))


def write_results(dataset: Dataset, state: State, folder: RunFolder) -> None:
    """Write the dataset with its new labels, in its order, and tell of it.

    Args:
        dataset: as it was read.
        state: after the last event.
        folder: with the labels.
    """
    done: list[Atoms] = []
    failed: list[Atoms] = []
    for atoms, structure in zip(dataset.frames, dataset.structures, strict=True):
        key = structure_key(structure, folder.engine_digest)
        atoms = atoms.copy()
        if key in state.books.rejected:
            atoms.info["fhi_al_reason"] = " ".join(state.books.rejected[key].reason.split())
            failed.append(atoms)
            continue
        label = folder.labels.get(key)
        atoms.info["REF_energy"] = label.energy
        atoms.arrays["REF_forces"] = np.array(label.forces)
        if label.stress is not None:
            atoms.info["REF_stress"] = np.array(label.stress)
        about = {"key": key, **label.provenance}
        atoms.info.update({f"fhi_al_{name}": value for name, value in about.items()})
        done.append(atoms)
    for frames, path in ((done, dataset.output), (failed, dataset.rejected)):
        if frames:
            write_xyz(path, frames)
        else:
            path.unlink(missing_ok=True)
    log.info("%d of %d structures are in %s", len(done), len(dataset.frames), dataset.output)
    if failed:
        log.warning(
            "%d structures have no label: %s says why. To try them again, with other settings of "
            "the SCF if you like, run the same command with --retry-rejected",
            len(failed),
            dataset.rejected,
        )
