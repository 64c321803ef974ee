"""What each command goes through, as data."""

from __future__ import annotations

from fhi_al.procedures.active_learning import ACTIVE_LEARNING
from fhi_al.procedures.atomic_energies import ATOMIC_ENERGIES, ATOMIC_ENERGIES_ALONE
from fhi_al.procedures.convergence import CONVERGENCE, INITIAL_CONVERGENCE
from fhi_al.procedures.initial_dataset import INITIAL_DATASET
from fhi_al.procedures.procedure import Procedure
from fhi_al.procedures.recalculation import RECALCULATION
from fhi_al.procedures.taking_over import TAKING_OVER

PIPELINES: dict[str, Procedure] = {
    procedure.name: procedure
    for procedure in (
        Procedure(
            "run",
            "the run",
            (ATOMIC_ENERGIES, INITIAL_DATASET, INITIAL_CONVERGENCE, ACTIVE_LEARNING, CONVERGENCE),
            command="FHI_AL",
        ),
        Procedure(
            "initial_dataset",
            "the initial dataset",
            (ATOMIC_ENERGIES, INITIAL_DATASET, INITIAL_CONVERGENCE),
            command="FHI_AL-initial-ds",
        ),
        Procedure(
            "active_learning",
            "active learning",
            (
                ATOMIC_ENERGIES,
                TAKING_OVER,
                INITIAL_DATASET,
                INITIAL_CONVERGENCE,
                ACTIVE_LEARNING,
                CONVERGENCE,
            ),
            command="FHI_AL-al",
            after="initial_dataset",
        ),
        Procedure(
            "atomic_energies",
            "the energies of the isolated atoms",
            (ATOMIC_ENERGIES_ALONE,),
            command="FHI_AL-atomic-energies",
            journal="atomic_energies.jsonl",
        ),
        Procedure(
            "recalculate",
            "the recalculation",
            (RECALCULATION,),
            command="FHI_AL-recalculate",
            journal=None,
        ),
    )
}
"""Procedures by their names, which are those of the goals in journals."""


def words_of(stage: str) -> str:
    """A stage in a sentence, by its name."""
    found = filter(None, (procedure.stage(stage) for procedure in PIPELINES.values()))
    return next((known.words for known in found), stage)
