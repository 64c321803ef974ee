"""The stages of a run in words."""

from __future__ import annotations

from dataclasses import dataclass

from fhi_al.record.events import Stage


@dataclass(frozen=True)
class StageWords:
    """What a stage is called.

    Attributes:
        name: in tables and sentences.
        title: above what its log tells.
        log_file: that tells of it; the names are the manual's.
    """

    name: str
    title: str
    log_file: str


STAGES: dict[Stage, StageWords] = {
    "recalculation": StageWords("recalculation", "Recalculating a dataset", "recalculate.log"),
    "atomic_energies": StageWords(
        "atomic energies", "Energies of the isolated atoms", "atomic_energies.log"
    ),
    "import": StageWords("import", "Taking over data and models", "AL.log"),
    "initial_dataset": StageWords("initial dataset", "Initial dataset", "initial_dataset.log"),
    "converge_initial": StageWords(
        "initial convergence", "Converging the initial models", "initial_dataset.log"
    ),
    "active_learning": StageWords("active learning", "Active learning", "AL.log"),
    "convergence": StageWords("final convergence", "Converging the final models", "AL.log"),
    "done": StageWords("done", "Done", "AL.log"),
}
"""All of them, in the order of a run."""
