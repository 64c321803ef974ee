"""What every reference engine says of itself, beside its settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from fhi_al.record.registry import Choice, Citation, Registry
from fhi_al.settings import control_in
from fhi_al.settings.base import Section, unknown
from fhi_al.settings.control_in import ControlIn

_KINDS = ("molecules", "chains", "slabs", "crystals")
"""Structures that repeat along none, one, two, three lattice vectors."""


class ReferenceSettings(Section):
    """The settings of a reference engine, and what the engine says of itself.

    Whatever the program wants to know of an engine, it asks here. The answers in this class are
    those of most engines; the class of an engine has its own where they differ.
    """

    function: ClassVar[str]
    """What does the work, a class as `fhi_al.reference.engine.Engine` describes it: `module:name`,
    imported on first use."""

    title: ClassVar[str]
    """What the engine is, as within a sentence."""

    papers: ClassVar[tuple[Citation, ...]] = ()
    """All papers that a method of the engine stems from."""

    parallel: ClassVar[bool] = False
    """Whether a calculation uses all ranks of its group; if not, its first rank works alone."""

    reads_control: ClassVar[bool] = False
    """Whether control.in is the engine's input: it must be there, and all of it counts. Other
    engines take charge and spin from it, and need none."""

    periodicities: ClassVar[frozenset[int]] = frozenset({0, 1, 2, 3})
    """Along how many lattice vectors a structure may repeat. Others are refused."""

    repeats_along_all: ClassVar[bool] = False
    """Whether chains and slabs are not refused but computed as crystals."""

    has_stress: ClassVar[bool] = True
    """Whether structures that repeat can get a stress."""

    history_free: ClassVar[Mapping[str, Any]] = {}
    """Settings by which no label depends on the labels before it; deterministic runs have them."""

    manual_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of ACTIVE_LEARNING -> the settings here that they give, as the original program's manual
    has it. Where there is no REFERENCE section, all of them together choose the engine."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Python packages whose versions a report tells, where they are installed."""

    engine: str
    """The engine's name."""

    @classmethod
    def kinds(cls) -> list[str]:
        """The structures that the engine computes, in words."""
        return [_KINDS[n] for n in sorted(cls.periodicities)]

    @property
    def words(self) -> str:
        """The method, as within a sentence."""
        return self.title

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The papers on the method: some of `papers`."""
        return self.papers

    @property
    def charges(self) -> bool:
        """Whether the total charge of a structure counts."""
        return True

    @property
    def spins(self) -> bool:
        """Whether the number of unpaired electrons of a structure counts."""
        return True

    @property
    def rescues(self) -> tuple[Mapping[str, Any], ...]:
        """What to try when an SCF fails: `scf_rescue`, in engines that have this setting."""
        rescues: tuple[Mapping[str, Any], ...] = getattr(self, "scf_rescue", ())
        return rescues

    def rescued(
        self, control: ControlIn | None, overrides: Mapping[str, Any]
    ) -> tuple[Self, ControlIn | None]:
        """The settings, and the control.in, of an attempt to rescue an SCF.

        Args:
            control: control.in, or None.
            overrides: one of `rescues`.
        """
        return self.model_copy(update=dict(overrides)), control

    def control_problems(
        self, control: ControlIn, elements: Iterable[str], periodic: bool
    ) -> list[str]:
        """Say what of a control.in the engine can't do, a sentence each.

        Args:
            control: control.in.
            elements: chemical symbols of the structures.
            periodic: whether any of them repeats.
        """
        unpaired = control.unpaired or 0
        problems = []
        if unpaired % 1:
            problems.append(
                f"{control_in.FILE}: got {unpaired} unpaired electrons, expected a whole number "
                f"for the engine {self.engine}."
            )
        if (control.charge and not self.charges) or (unpaired and not self.spins):
            problems += self._unheard(control.charge, unpaired)
        return problems

    def _unheard(self, charge: float, unpaired: float) -> Iterator[str]:
        """Say that charge, spin or both would not count, and what to do about it."""
        what = "neither" if not (self.charges or self.spins) else "no spin"
        what = "no charge" if self.spins else what
        yield (
            f"{control_in.FILE}: got charge {charge:g} and {unpaired:g} unpaired electrons, but "
            f"the method ({self.words}) knows of {what}; remove them, or use another engine."
        )


@dataclass(frozen=True, kw_only=True)
class EngineChoice(Choice[Any]):
    """A reference engine.

    Attributes:
        section: the class of its settings, which says what it can do.
    """

    section: type[ReferenceSettings]


def engines(*sections: type[ReferenceSettings]) -> Registry[EngineChoice]:
    """Make the registry of engines from the classes of their settings."""
    return Registry(
        "a reference engine",
        {
            section.model_fields["engine"].default: EngineChoice(
                section.function, section.title, section.papers, section=section
            )
            for section in sections
        },
    )


def refuse_unknown(rescues: Iterable[Mapping[str, Any]], known: Iterable[str], what: str) -> None:
    """Refuse rescues with keys that an engine does not know.

    Args:
        rescues: as the user gave them.
        known: the keys that a rescue may have.
        what: such a key, as in `a setting of an SCF`.

    Raises:
        ValueError: with the nearest key.
    """
    for name in (name for overrides in rescues for name in overrides):
        if name not in known:
            raise ValueError(unknown("", name, known, what))
