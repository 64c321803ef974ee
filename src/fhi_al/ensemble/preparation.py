"""Models and data made ready for a training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mace.data import AtomicData

from fhi_al.ensemble.data import STRESS_LOSSES, Counts, Graphs, count, member_keys
from fhi_al.ensemble.members import Committee, atomic_energies, new_members
from fhi_al.errors import FhiAlError
from fhi_al.folder.run_folder import RunFolder
from fhi_al.record.effects import Train
from fhi_al.record.events import Entry

log = logging.getLogger(__name__)


def prepare(
    effect: Train, entries: Sequence[Entry], folder: RunFolder, committee: Committee
) -> dict[int, tuple[list[AtomicData], list[AtomicData]]]:
    """Have the models and the data of a training.

    Args:
        effect: what is to be done.
        entries: the datasets, in journal order.
        folder: with labels and checkpoints.
        committee: is loaded or built.

    Returns:
        Training and validation set of each member that trains.
    """
    size = committee.inputs.al.active_learning.ensemble_size
    every = [member_keys(entries, index, union=effect.union)[0] for index in range(size)]
    keys = list(dict.fromkeys(key for own in every for key in own))
    if effect.weights is None:
        committee.members = new_members(committee, folder, keys, effect.atomic_energies)
    else:
        committee.load(folder, effect.weights)
    graphs = committee.graphs(folder)
    _refit_energies(effect, folder, committee, graphs, keys)
    sets = {}
    for index in effect.members:
        own, valid = member_keys(entries, index, union=effect.union)
        sets[index] = graphs.of(own), graphs.of(valid)
        member = committee.members[index]
        found = count(sets[index][0], committee.inputs.mace.training)
        if effect.weights is None or effect.fresh or member.progress.stage != effect.stage:
            log.info("%s", describe_data(index, found, len(valid)))
        member.update(n_energies=found.energies, n_forces=found.forces, n_stresses=found.stress)
        if committee.inputs.mace.training.forces_weight and found.structures and not found.forces:
            raise FhiAlError(
                f"None of the {found.structures} training labels of member {index} has forces that "
                "count in the loss. Look at TRAINING.config_type_weights in mace_settings.yaml, "
                "or set TRAINING.forces_weight to 0 to train on energies alone."
            )
        if committee.inputs.mace.training.loss in STRESS_LOSSES and not found.stress:
            log.warning(
                "TRAINING.loss is %s, but no training label of member %d has a stress: only "
                "energies and forces are learned.",
                committee.inputs.mace.training.loss,
                index,
            )
    return sets


def describe_data(index: int, found: Counts, n_valid: int) -> str:
    """Say what a member trains on."""
    return (
        f"member {index} trains on {found.structures} structures: {found.energies} with energy, "
        f"{found.forces} with forces, {found.stress} with stress in the loss; is validated on "
        f"{n_valid}"
    )


def _refit_energies(
    effect: Train, folder: RunFolder, committee: Committee, graphs: Graphs, keys: Sequence[str]
) -> None:
    """Fit the E0s again when an element turns up that no label of the first fit had."""
    first = committee.members[0]
    fitted = first.progress.fitted_elements
    if not fitted or len(fitted) == len(first.spec.elements):
        return
    present = {
        z
        for graph in graphs.of(keys)
        for z, there in zip(first.spec.elements, graph.node_attrs.any(dim=0), strict=True)
        if there
    }
    if present <= set(fitted):
        return
    energies, fitted = atomic_energies(committee.inputs, effect.atomic_energies, folder, keys)
    log.info("New elements in the data: E0s are now %s eV, all optimizers are reset.", energies)
    for member in committee.members:
        member.set_atomic_energies(energies, fitted)
