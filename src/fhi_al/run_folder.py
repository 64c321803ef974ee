"""Where a run keeps its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fhi_al.labels import LabelStore, StructureStore
from fhi_al.settings import Inputs


@dataclass(frozen=True)
class RunFolder:
    """The folders and files of one run; those of the manual, and `restart/` for the program.

    Attributes:
        inputs: what the user asked for.
        engine_digest: of the reference engine, part of every structure's key.
    """

    inputs: Inputs
    engine_digest: str

    @property
    def root(self) -> Path:
        """The folder with the input files."""
        return self.inputs.directory

    @property
    def restart(self) -> Path:
        """All that a restart needs, and nothing else."""
        return self.root / "restart"

    @property
    def journal(self) -> Path:
        """The journal of the run."""
        return self.restart / "journal.jsonl"

    @property
    def deaths(self) -> Path:
        """Marks of reference libraries that took their process down."""
        return self.restart / "deaths"

    @cached_property
    def labels(self) -> LabelStore:
        """Finished labels."""
        return LabelStore(self.restart / "labels")

    @cached_property
    def structures(self) -> StructureStore:
        """Structures that wait for a label."""
        return StructureStore(self.restart / "structures")

    def walkers(self, name: str) -> Path:
        """The walkers file of this name."""
        return self.restart / "walkers" / f"{name}.h5"

    def checkpoint(self, weights: str, member: int) -> Path:
        """One member's part of a checkpoint of the committee."""
        return self.root / self.inputs.mace.general.checkpoints_dir / f"{weights}-{member}.pt"

    @property
    def reference(self) -> Path:
        """Working folders of the reference engines."""
        return self.root / "reference"

    @property
    def data(self) -> Path:
        """Exported datasets."""
        return self.root / self.inputs.al.active_learning.dataset_dir

    @property
    def models(self) -> Path:
        """Exported models."""
        return self.root / self.inputs.mace.general.model_dir

    @property
    def results(self) -> Path:
        """Training histories, the summary, and copies of all settings."""
        return self.root / self.inputs.mace.general.results_dir

    @property
    def logs(self) -> Path:
        """The folder of the log files."""
        return self.root / self.inputs.mace.general.log_dir
