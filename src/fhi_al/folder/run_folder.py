"""Where a run keeps its files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fhi_al.errors import InputError
from fhi_al.folder.artefacts import Artefacts
from fhi_al.record.files import why_not_writable
from fhi_al.record.labels import LabelStore, StructureStore
from fhi_al.settings import Inputs

PREDICTIONS = "predictions.h5"
"""In results/: what the models say about labelled structures."""


@dataclass(frozen=True)
class RunFolder:
    """The folders and files of one run; those of the manual, and `restart/` for the program.

    Attributes:
        inputs: what the user asked for.
        engine_digest: of the reference engine, part of every structure's key.
        run: name of the run, part of the names of walkers and weights.
    """

    inputs: Inputs
    engine_digest: str
    run: str = ""

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
    def artefacts(self) -> Artefacts:
        """The files that events name."""
        checkpoints = self.root / self.inputs.mace.general.checkpoints_dir
        return Artefacts(self.restart, checkpoints, self.run)

    @property
    def labels(self) -> LabelStore:
        """Finished labels."""
        return self.artefacts.labels

    @property
    def structures(self) -> StructureStore:
        """Structures that wait for a label."""
        return self.artefacts.structures

    def walkers(self, name: str) -> Path:
        """The walkers file of this name."""
        return self.artefacts.walkers(name)

    def checkpoint(self, weights: str, member: int) -> Path:
        """One member's part of a checkpoint of the committee."""
        return self.artefacts.checkpoint(weights, member)

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
    def predictions(self) -> Path:
        """What the models say about the validation and the test set, when they were measured."""
        return self.results / PREDICTIONS

    @property
    def logs(self) -> Path:
        """The folder of the log files."""
        return self.root / self.inputs.mace.general.log_dir

    def check_writable(self) -> None:
        """Make sure that files can be made wherever the run will.

        Raises:
            InputError: somewhere they can't.
        """
        paths = {self.root, self.restart, self.data, self.models, self.results, self.logs}
        paths.add(self.artefacts.checkpoints)
        problems = [why for path in paths if (why := why_not_writable(path))]
        if problems:
            raise InputError(sorted(problems))


@contextlib.contextmanager
def no_trace_of_failure(path: Path) -> Iterator[Callable[[], None]]:
    """Remove a folder at the end, if it is new, unless the function that this gives is called."""
    new = not path.exists()
    kept: list[bool] = []
    try:
        yield lambda: kept.append(True)
    finally:
        if new and not kept:
            shutil.rmtree(path, ignore_errors=True)


def remove_empty(folder: Path) -> None:
    """Remove the working folders of engines that left nothing there."""
    for path in (*folder.glob("*"), folder):
        with contextlib.suppress(OSError):
            path.rmdir()
