"""Models and datasets where the user looks for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
import yaml

from fhi_al.ensemble.data import member_keys
from fhi_al.ensemble.frames import write_labels
from fhi_al.ensemble.member import Member
from fhi_al.ensemble.members import Committee
from fhi_al.folder.run_folder import RunFolder
from fhi_al.record.effects import Export
from fhi_al.record.events import ALL_MEMBERS, Entry, Exported
from fhi_al.record.files import write_file, write_text

INITIAL = "initial"
"""Folder, below those of the final ones, of the models and data of the initial dataset."""


def export(effect: Export, folder: RunFolder, committee: Committee) -> Exported:
    """Write the models and datasets that a stage leaves.

    Models are `<name_exp>_<member>.model`, with the weights that were evaluated. Datasets are
    `train_member<i>.xyz` and `valid_member<i>.xyz` for each member, `train.xyz` and `valid.xyz` of
    all together, and `audit.xyz` with the sanity checks, if there were any.

    Args:
        effect: what to write.
        folder: where.
        committee: at `effect.weights`.
    """
    began = time.monotonic()
    initial = effect.stage in ("initial_dataset", "converge_initial")
    files = _models(effect, folder.models / INITIAL if initial else folder.models, committee)
    files += _datasets(effect, folder, folder.data / INITIAL if initial else folder.data)
    files.append(_seeds(folder, committee))
    return Exported(
        effect=effect.id,
        files=tuple(_relative(path, folder.root) for path in files),
        seconds=time.monotonic() - began,
    )


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _models(effect: Export, target: Path, committee: Committee) -> list[Path]:
    name = committee.inputs.mace.general.name_exp
    files = []
    for index in effect.members:
        path = target / f"{name}_{index}.model"
        write_file(path, partial(torch.save, delivered_model(committee.members[index])))
        files.append(path)
    return files


def delivered_model(member: Member) -> torch.nn.Module:
    """A copy of a member's model on the CPU, with the weights to predict with."""
    model = deepcopy(member.model)
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), member.delivered(), strict=True):
            parameter.copy_(weight)
    return model.cpu().eval()


def _datasets(effect: Export, folder: RunFolder, target: Path) -> list[Path]:
    entries = tuple(effect.entries)
    size = folder.inputs.al.active_learning.ensemble_size
    sets = {
        "train": member_keys(entries, ALL_MEMBERS, union=True)[0],
        "valid": member_keys(entries, ALL_MEMBERS, union=True)[1],
        "audit": list(dict.fromkeys(entry.key for entry in entries if entry.split == "audit")),
    }
    for index in range(size):
        train, valid = member_keys(entries, index)
        sets[f"train_member{index}"], sets[f"valid_member{index}"] = train, valid
    owners = _owners(entries)
    files = []
    for name, keys in sets.items():
        path = target / f"{name}.xyz"
        if not keys:
            path.unlink(missing_ok=True)  # of an earlier export
            continue
        write_labels(path, ((folder.labels.get(key), owners[key]) for key in keys))
        files.append(path)
    return files


def _owners(entries: Sequence[Entry]) -> dict[str, dict[str, str]]:
    """Whose each label is, for the files: `all` or the numbers of members."""
    owners: dict[str, list[str]] = {}
    for entry in entries:
        who = "all" if entry.member == ALL_MEMBERS else f"member {entry.member}"
        owners.setdefault(entry.key, []).append(f"{entry.split} of {who}")
    return {key: {"used_as": ", ".join(uses)} for key, uses in owners.items()}


def _seeds(folder: RunFolder, committee: Committee) -> Path:
    path = folder.data / "seeds.yaml"
    name = committee.inputs.mace.general.name_exp
    seeds = {f"{name}_{index}": member.seed for index, member in enumerate(committee.members)}
    write_text(
        path, "# Seed of each ensemble member's weights and batches.\n" + yaml.safe_dump(seeds)
    )
    return path
