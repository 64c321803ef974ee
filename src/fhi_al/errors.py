"""The few kinds of error that this program raises on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal


class FhiAlError(Exception):
    """A failure that the user can understand and act on; shown without a traceback."""

    exit_code = 1


class InputError(FhiAlError):
    """Something in the user's files or on the command line is wrong.

    Args:
        problems: one complete sentence a problem: what, where, got, expected, what to do.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[str]]]:
        return type(self), (self.problems,)


class StoppedError(FhiAlError):
    """The run was asked to stop before its goal, and did; the same command goes on."""

    # EX_TEMPFAIL of sysexits.h: try again later.
    exit_code = 75


class StorageError(FhiAlError):
    """A file could not be written: disk full, quota, read-only, broken."""


class JournalError(FhiAlError):
    """The journal, or an artefact that it names, is damaged, missing or of another run."""


class NewerJournalError(JournalError):
    """The journal is in a format that only a later version of the program knows."""

    exit_code = 2


class EngineError(FhiAlError):
    """A reference engine could not be started or broke down (not a failed SCF)."""


class UnconvergedError(FhiAlError):
    """A reference calculation ended without a usable result: an outcome, not a fault.

    The structure is rejected with this error's text as the reason, and the run goes on.

    Attributes:
        kind: of the rejection, as the journal has it.
        attempts: calculations that were made before the engine gave up.
    """

    kind: Literal["scf", "integrity"] = "scf"
    attempts = 1


class UnsoundError(UnconvergedError):
    """A reference calculation ended with numbers that can't belong to the structure."""

    kind = "integrity"
