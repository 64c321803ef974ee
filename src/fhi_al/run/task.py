"""What a command is for: the points where commands that compute differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fhi_al.folder.kept_aside import KeptAside
from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.pipelines import PIPELINES
from fhi_al.procedures.procedure import Procedure
from fhi_al.procedures.run import finished
from fhi_al.procedures.state import State
from fhi_al.record.events import Event
from fhi_al.run.closing import report, report_atomic_energies, write_settings
from fhi_al.run.controller import Listener
from fhi_al.settings import Inputs
from fhi_al.workers.crew import layout_for
from fhi_al.workers.layout import Layout


class Task:
    """A command that goes through a procedure, as most do.

    Args:
        goal: name of the procedure.

    Attributes:
        procedure: what the command goes through.
    """

    def __init__(self, goal: str) -> None:
        self.procedure: Procedure = PIPELINES[goal]

    def inputs(self, inputs: Inputs) -> Inputs:
        """What is to be done, from what the folder asks for.

        Raises:
            InputError: it can't be done.
        """
        return inputs

    def layout(self, inputs: Inputs, size: int) -> Layout:
        """The split of so many ranks.

        Raises:
            InputError: there are too few.
        """
        return layout_for(inputs, size)

    def journal(self, folder: RunFolder) -> Path:
        """Where its events are."""
        assert self.procedure.journal is not None
        return folder.restart / self.procedure.journal

    def is_over(self, state: State, *, retry: bool) -> bool:
        """Whether there is nothing left to do.

        Args:
            state: so far.
            retry: whether rejected structures are to be tried again.
        """
        return finished(state)

    def begin(self, folder: RunFolder) -> None:
        """Leave what belongs beside the results from the start."""
        write_settings(folder.inputs, folder)

    def listeners(self, folder: RunFolder, state: State) -> Sequence[Listener]:
        """What follows the events besides that which follows those of all commands."""
        return (KeptAside(folder, state),)

    def first_events(self, folder: RunFolder, state: State) -> Sequence[Event]:
        """What is known before anything is computed."""
        return ()

    def report(self, folder: RunFolder, state: State, peaks: list[float]) -> None:
        """Tell the user what there is now.

        Args:
            folder: of the run.
            state: after the last event.
            peaks: memory of the ranks in MB; empty where nothing was done.
        """
        report(state, folder, peaks)


class AtomicEnergies(Task):
    """The isolated atoms of a run, for their own sake."""

    def __init__(self) -> None:
        super().__init__("atomic_energies")

    def listeners(self, folder: RunFolder, state: State) -> Sequence[Listener]:
        """None: what was kept aside is the run's."""
        return ()

    def report(self, folder: RunFolder, state: State, peaks: list[float]) -> None:
        """Write the energies, and say them."""
        report_atomic_energies(state, folder)
