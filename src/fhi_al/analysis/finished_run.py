"""A run as its journal tells of it, for those who come afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fhi_al.errors import InputError
from fhi_al.procedures.run import finished, fold, stage_words
from fhi_al.procedures.state import State
from fhi_al.record.events import Opened, Stage
from fhi_al.record.journal import Record, read_journal
from fhi_al.record.labels import LabelStore


@dataclass(frozen=True)
class FinishedRun:
    """A run that is finished, or as far as it has come. Nothing here writes.

    Attributes:
        root: its folder.
        records: of its journal.
        state: what follows from them.
    """

    root: Path
    records: Sequence[Record]
    state: State

    @property
    def opened(self) -> Opened:
        """The newest command."""
        return [r.event for r in self.records if isinstance(r.event, Opened)][-1]

    @property
    def labels(self) -> LabelStore:
        """Its labels."""
        return LabelStore(self.root / "restart" / "labels")

    @property
    def delivered_stage(self) -> Stage | None:
        """The newest stage that has left models, or None."""
        return list(self.state.books.exported)[-1] if self.state.books.exported else None

    def model_files(self) -> list[Path]:
        """The models that the user has got last.

        Raises:
            InputError: there are none yet, or they are gone.
        """
        if self.delivered_stage is None:
            raise InputError(
                f"{self.root}: there are no models yet: the first are written when the initial "
                f"dataset is complete. The run is in the stage {self._stage()} with "
                f"{len(self.state.books.entries)} labels"
            )
        files = [
            self.root / file
            for file in self.state.books.exported[self.delivered_stage]
            if file.endswith(".model")
        ]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise InputError(
                f"{self.root}: the models that the run has written are gone: {', '.join(missing)}; "
                "put them back"
            )
        return files

    def describe(self) -> str:
        """What there is, in a sentence."""
        n_labels = len(self.state.books.entries)
        if finished(self.state):
            return f"{self.root.absolute()}: a finished run with {n_labels} labels."
        delivered = "no models yet"
        if self.delivered_stage is not None:
            delivered = f"the newest models are those of the {self.delivered_stage}"
        return (
            f"{self.root.absolute()}: this run is not finished: it is in the stage "
            f"{self._stage()} with {n_labels} labels; {delivered.replace('_', ' ')}."
        )

    def _stage(self) -> str:
        return stage_words(self.state)


def read_run(directory: Path) -> FinishedRun:
    """Read the journal of a run; another process may be writing it.

    Args:
        directory: the folder of the run.

    Raises:
        InputError: there is none.
        JournalError: it is damaged.
    """
    journal = directory / "restart" / "journal.jsonl"
    if not journal.is_file():
        raise InputError(
            f"{directory.absolute()}: there is no run here (no file restart/journal.jsonl); name "
            "the folder that FHI_AL was run in"
        )
    records, _ = read_journal(journal)
    state = fold(record.event for record in records)
    if state is None:
        raise InputError(f"{directory.absolute()}: the run here has only just begun; try later")
    return FinishedRun(directory, records, state)
