"""Datasets and models that the user brings, taken over as labels and as a checkpoint."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from ase.data import atomic_numbers

from fhi_al.atoms.pairs import too_close
from fhi_al.atoms.structure import Label, structure_key
from fhi_al.ensemble.architecture import load_model_file, rebuild
from fhi_al.ensemble.frames import read_labels
from fhi_al.ensemble.member import Member, training_options
from fhi_al.ensemble.members import Committee, elements, member_seeds
from fhi_al.errors import InputError, UnsoundError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.handlers.export import INITIAL
from fhi_al.procedures.split import next_split
from fhi_al.record.effects import Import
from fhi_al.record.events import ALL_MEMBERS, Entry, Imported, Split
from fhi_al.reference.integrity import check_net_force
from fhi_al.settings import Inputs

log = logging.getLogger(__name__)

_OWN = re.compile(r"(train|valid)_member(\d+)")


def import_data(effect: Import, folder: RunFolder) -> Imported:
    """Take over the user's labels, and models if there are any.

    Files are those of `initial_data` and `initial_models`; where these are not set, what the
    export of an initial dataset leaves: `data/initial/*.xyz` and `model/initial/*.model`.
    A file named `train_member<i>` or `valid_member<i>` belongs to that member, one with `valid` in
    its name is validated on by all, one with `audit` in its name is an audit; the structures of any
    other are dealt to the members, a share of valid_ratio for validation.

    Args:
        effect: names the event, and has the energies of isolated atoms where they were computed.
        folder: gets label files, and a checkpoint if there are models.

    Raises:
        InputError: no data, unreadable files, or models that don't fit.
    """
    data = _data_files(folder)
    if not data:
        raise InputError(
            f"There is no initial dataset in {folder.data / INITIAL}; run FHI_AL-initial-ds first, "
            "or name files with labelled structures in ACTIVE_LEARNING.initial_data of "
            "active_learning_settings.yaml."
        )
    entries = tuple(_entries(data, folder))
    if not any(entry.split == "train" for entry in entries):
        raise InputError(
            f"There is nothing to train on in {', '.join(path.name for path in data)}: all "
            "structures there are for validation."
        )
    models = _model_files(folder)
    if models:
        _import_models(models, folder, effect)
    return Imported(
        effect=effect.id,
        weights=effect.id if models else None,
        entries=entries,
        files=tuple(str(path) for path in (*data, *models)),
    )


def _data_files(folder: RunFolder) -> tuple[Path, ...]:
    given = folder.inputs.al.active_learning.initial_data
    if given is not None:
        return given
    found = sorted((folder.data / INITIAL).glob("*.xyz"))
    own = [path for path in found if _OWN.fullmatch(path.stem)]
    # Next to the members' own sets, train.xyz and valid.xyz only repeat them.
    return tuple([*own, *(p for p in found if p.stem == "audit")] if own else found)


def _model_files(folder: RunFolder) -> tuple[Path, ...]:
    given = folder.inputs.al.active_learning.initial_models
    if given is not None:
        return given
    name = folder.inputs.mace.general.name_exp
    size = folder.inputs.al.active_learning.ensemble_size
    expected = [folder.models / INITIAL / f"{name}_{index}.model" for index in range(size)]
    found = tuple(path for path in expected if path.is_file())
    if found and len(found) < size:
        raise InputError(
            f"{folder.models / INITIAL} has {len(found)} models named {name}_<member>.model, "
            f"expected ensemble_size = {size}; name them in ACTIVE_LEARNING.initial_models, or "
            "move them away to train new ones."
        )
    return found


# --- labels ----------------------------------------------------------------------------------


def _entries(files: Iterable[Path], folder: RunFolder) -> Iterator[Entry]:
    """Store the labels of all files, each structure once, and say what they are used for."""
    seen: set[str] = set()
    for path in files:
        labels, digest = read_labels(path)
        _check_elements(path, labels, folder)
        keys = []
        for label in labels:
            structure = structure_key(label.structure, "")
            if structure in seen:
                log.warning(
                    "%s: structure %s is there twice; only the first one counts.",
                    path,
                    label.provenance["index"],
                )
                continue
            seen.add(structure)
            _look_at(path, label, folder)
            if not folder.labels.has(label.key):
                folder.labels.put(label, digest)
            keys.append(label.key)
        yield from _uses(path.stem, keys, folder)


def _look_at(path: Path, label: Label, folder: RunFolder) -> None:
    """Warn of what the reference of this run would not be believed; the data is the user's."""
    structure, settings = label.structure, folder.inputs.al
    problem = too_close(
        structure.numbers,
        structure.positions,
        structure.cell,
        structure.pbc,
        min(md.min_distance_factor for md in settings.md),
    )
    try:
        check_net_force(label, settings.active_learning.max_net_force_eV_per_A)
    except UnsoundError as error:
        problem = problem or str(error)
    if problem:
        log.warning("%s: structure %s: %s", path, label.provenance["index"], problem)


def _uses(stem: str, keys: Sequence[str], folder: RunFolder) -> Iterator[Entry]:
    size = folder.inputs.al.active_learning.ensemble_size
    fixed: tuple[int, Split] | None = None
    if (own := _OWN.fullmatch(stem)) and int(own[2]) < size:
        fixed = int(own[2]), "train" if own[1] == "train" else "valid"
    elif "audit" in stem:
        fixed = ALL_MEMBERS, "audit"
    elif "valid" in stem:
        fixed = ALL_MEMBERS, "valid"
    if fixed is not None:
        yield from (Entry(key, *fixed) for key in keys)
        return
    # With too few for each member to have two of its own, all members share them.
    owners = range(size) if len(keys) >= 2 * size else (ALL_MEMBERS,)
    counts = {owner: [0, 0] for owner in owners}
    for index, key in enumerate(keys):
        owner = owners[index % len(owners)]
        n_valid, n_all = counts[owner]
        split = next_split(n_valid, n_all, folder.inputs.valid_ratio)
        counts[owner] = [n_valid + (split == "valid"), n_all + 1]
        yield Entry(key, owner, split)


def _check_elements(path: Path, labels: Sequence[Label], folder: RunFolder) -> None:
    known = set(elements(folder.inputs))
    found = {int(z) for label in labels for z in label.structure.numbers}
    if strange := sorted(found - known):
        raise InputError(
            f"{path} has atoms with the atomic numbers {strange}, which are not in geometry.in; "
            "the models know the elements of geometry.in only."
        )


# --- models ----------------------------------------------------------------------------------


def _import_models(files: Sequence[Path], folder: RunFolder, effect: Import) -> None:
    """Make a checkpoint of `.model` files."""
    inputs = folder.inputs
    size = inputs.al.active_learning.ensemble_size
    seeds = member_seeds(inputs.mace.general.seed, size)
    options = training_options(inputs)
    device = torch.device("cpu")
    members = []
    for path, seed in zip(files, seeds, strict=True):
        foreign = load_model_file(path)
        spec, model = rebuild(foreign, inputs.mace.general.default_dtype, str(path))
        missing = sorted(set(elements(inputs)) - set(spec.elements))
        if missing:
            raise InputError(
                f"{path} doesn't know the atomic numbers {missing} of geometry.in; it was trained "
                f"on {list(spec.elements)}."
            )
        members.append(Member(spec, seed, options, device, model))
    first = members[0].spec
    for path, member in zip(files, members, strict=True):
        if (member.spec.elements, member.spec.r_max) != (first.elements, first.r_max):
            raise InputError(
                f"{path} differs from {files[0]} in its elements or its cutoff; all members need "
                "the same."
            )
    _count_from_own_atoms(members, effect, inputs)
    Committee(inputs, device, members=members).save(folder, effect.id)


def _count_from_own_atoms(members: Sequence[Member], effect: Import, inputs: Inputs) -> None:
    """Have energies count from the isolated atoms of this run's reference, if they are known.

    A foundation model was trained with another reference, whose energies have another zero.
    """
    known = effect.atomic_energies or inputs.mace.architecture.atomic_energies
    if not known or known == "auto":
        return
    given = {atomic_numbers[symbol]: energy for symbol, energy in dict(known).items()}
    for member in members:
        own = zip(member.spec.elements, member.spec.atomic_energies, strict=True)
        energies = [given.get(number, energy) for number, energy in own]
        if tuple(energies) != member.spec.atomic_energies:
            member.set_atomic_energies(energies, ())
