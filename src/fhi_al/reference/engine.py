"""What every reference engine is, and the list of those that there are."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fhi_al.structure import Label, Structure

if TYPE_CHECKING:
    from fhi_al.settings.control_in import ControlIn
    from fhi_al.settings.reference import ReferenceSettings


class Engine(Protocol):
    """A method that labels structures, alive in the processes of one reference group.

    The class may be imported anywhere; only an instance may import the library behind it.
    """

    parallel: ClassVar[bool]
    """Whether `label` uses every rank of the communicator; if not, rank 0 of it works alone."""

    def __init__(
        self, settings: ReferenceSettings, control: ControlIn | None, comm: Any, directory: Path
    ) -> None:
        """Start the engine.

        Args:
            settings: the REFERENCE section.
            control: control.in, or None where the engine needs none and there is none.
            comm: the group's mpi4py communicator, or None for a process alone.
            directory: an existing folder of this group's own, absolute.

        Raises:
            InputError: the user's settings can't work (library missing, unknown method, ...).
        """

    @classmethod
    def digest(cls, settings: ReferenceSettings, control: ControlIn | None) -> str:
        """Digest of everything but the structure that decides a label. Imports no library."""

    def label(self, structure: Structure) -> Label:
        """Compute energy, forces and (periodic structures) stress. Collective over the group.

        Raises:
            UnconvergedError: no usable result for this structure; the engine works on.
            EngineError: the engine is broken; the run ends.
        """

    def close(self) -> None:
        """Free the library. The engine is not used afterwards."""


ENGINES: dict[str, str] = {
    "asi": "fhi_al.reference.asi:AsiEngine",
    "xtb": "fhi_al.reference.xtb:XtbEngine",
    "ase": "fhi_al.reference.ase:AseEngine",
    "mlff": "fhi_al.reference.mlff:MlffEngine",
}
"""Name in the REFERENCE section -> `module:class`, imported on first use."""


def engine_class(name: str) -> type[Engine]:
    """Import the class of a reference engine.

    Args:
        name: a key of `ENGINES`.
    """
    module, _, attribute = ENGINES[name].partition(":")
    found: type[Engine] = getattr(import_module(module), attribute)
    return found
