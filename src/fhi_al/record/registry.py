"""Registries: what there is to choose from, by name, with all that is told of each choice.

An entry is whole: what does it, the words for it in reports, the papers that it stems from and what
it can't work without. Settings, reports and helps take what they say from it.

A module with entries is cheap to import (no torch, ASE or MPI), because settings read it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar, cast

T = TypeVar("T")

Need = Literal["stress", "energies", "members", "periodicity"]
"""What a choice can't work without: the stress, the energies, several members, a periodic cell."""


@dataclass(frozen=True)
class Citation:
    """A paper.

    Attributes:
        key: first author and year, as in `Bussi2007`.
        bibtex: its BibTeX entry, under this key.
    """

    key: str
    bibtex: str


@dataclass(frozen=True)
class Choice(Generic[T]):
    """An entry of a registry; some registries ask for more, by a class below this one.

    Attributes:
        function: the function or class that does it, or its `module:name` where that module takes
            long to import.
        words: what it is, as within a sentence of a report.
        citations: the papers that it stems from.
        needs: what it can't work without.
        settings: those of the same section that mean something with this choice only, or with few.
        details: what comes after words and citations in a report, such as `with a friction of
            {friction_per_fs:g}/fs`; the names are those of settings of the same section.
    """

    function: T | str
    words: str
    citations: tuple[Citation, ...] = ()
    needs: frozenset[Need] = frozenset()
    settings: tuple[str, ...] = ()
    details: str = ""

    def load(self) -> T:
        """What does it, imported if need be."""
        if not isinstance(self.function, str):
            return self.function
        module, _, name = self.function.partition(":")
        return cast(T, getattr(import_module(module), name))

    def told(self, settings: Mapping[str, Any]) -> str:
        """Words, keys of what to cite, in brackets, and details.

        Args:
            settings: of the section in which it was chosen.
        """
        keys = ", ".join(citation.key for citation in self.citations)
        parts = (self.words, f"[{keys}]" if keys else "", self.details.format_map(settings))
        return " ".join(filter(None, parts))


C = TypeVar("C", bound=Choice[Any])


class Registry(Mapping[str, C]):
    """Choices by name, in the order in which they are shown.

    Args:
        kind: what each of them is, such as `an uncertainty`.
        choices: name -> entry; names are in lower case.
    """

    def __init__(self, kind: str, choices: Mapping[str, C]) -> None:
        self.kind = kind
        self._choices = dict(choices)

    def __getitem__(self, name: str) -> C:
        """The entry of this name, in this case.

        Raises:
            KeyError: there is none; says what there is.
        """
        try:
            return self._choices[name]
        except KeyError:
            raise KeyError(f"{name!r} is not {self.kind}; {self.expected(name)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def name(self, given: str) -> str:
        """The name that a user means, who may write it in any case.

        Raises:
            ValueError: there is no such name; says what there is.
        """
        if given.lower() not in self._choices:
            raise ValueError(self.expected(given))
        return given.lower()

    def without_effect(self, *chosen: str) -> dict[str, tuple[str, ...]]:
        """The settings that mean something with other choices only, each with these choices."""
        used = {setting for name in chosen for setting in self[name].settings}
        found: dict[str, tuple[str, ...]] = {}
        for name, choice in self.items():
            for setting in choice.settings:
                if setting not in used:
                    found[setting] = (*found.get(setting, ()), name)
        return found

    def expected(self, given: str = "") -> str:
        """Say what there is to choose from, and which of it is near."""
        *others, last = (f"'{name}'" for name in self)
        text = f"expected {', '.join(others)} or {last}" if others else f"expected {last}"
        near = difflib.get_close_matches(given.lower(), self, n=1)
        return f"{text} (did you mean {near[0]}?)" if near else text
