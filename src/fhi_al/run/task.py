"""What a command is for: the points where commands that compute differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fhi_al.folder.kept_aside import KeptAside
from fhi_al.folder.run_folder import RunFolder
from fhi_al.procedures.run import finished
from fhi_al.procedures.state import State
from fhi_al.record.events import Event, Goal
from fhi_al.run.closing import report, write_settings
from fhi_al.run.controller import Listener
from fhi_al.settings import Inputs
from fhi_al.workers.crew import layout_for
from fhi_al.workers.layout import Layout


class Task:
    """The run, a stage of it, or its isolated atoms.

    Args:
        goal: which of these.
    """

    def __init__(self, goal: Goal) -> None:
        self.goal = goal

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
        if self.goal == "atomic_energies":
            return folder.journal.with_name("atomic_energies.jsonl")
        return folder.journal

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
        if self.goal == "atomic_energies":
            return ()
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
        report(self.goal, state, folder, peaks)
