"""`control.in` of FHI-aims: what it asks for, and the text that the reference engine gets.

The text passes through as it is, but for what this program owns: forces and stress are on, results
of an unconverged SCF are kept so that it can be told, and missing species blocks are appended.

Source: FHI-aims manual, sections 2.1 and 3.2; FHI-aims reads its logicals as `.true.` exactly.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fhi_al.errors import InputError
from fhi_al.settings.base import shown

FILE = "control.in"

_OWNED = ("compute_forces", "postprocess_anyway")
_OWNED_PERIODIC = "compute_analytical_stress"

_MOTION = (
    "communicate_pimd_wrapper",
    "energy_tolerance",
    "external_pressure",
    "harmonic_length_scale",
    "hessian_to_restart_geometry",
    "init_hess",
    "line_search_tol",
    "max_atomic_move",
    "max_relaxation_steps",
    "path_integral",
    "plumed",
    "plumed_new",
    "prerelax",
    "restart_relaxations",
    "stress_for_relaxation",
    "use_pimd_wrapper",
)
_MOTION_PREFIXES = ("md_", "relax_", "bfgs_")
_TAKEN = ("charge", "spin", "fixed_spin_moment", "multiplicity")

SCF_KEYWORDS = (
    "adjust_scf",
    "basis_threshold",
    "charge_mix_param",
    "density_update_method",
    "empty_states",
    "ini_linear_mix_param",
    "ini_linear_mixing",
    "ini_spin_mix_param",
    "KS_method",
    "mixer",
    "mixer_threshold",
    "n_max_broyden",
    "n_max_pulay",
    "occupation_acc",
    "occupation_type",
    "override_illconditioning",
    "prec_mix_param",
    "precondition_max_l",
    "preconditioner",
    "relative_fp_charge_mix",
    "sc_abandon_etot",
    "sc_accuracy_eev",
    "sc_accuracy_etot",
    "sc_accuracy_forces",
    "sc_accuracy_rho",
    "sc_accuracy_stress",
    "sc_init_factor",
    "sc_init_iter",
    "sc_iter_limit",
    "spin_mix_param",
)
"""The keywords of control.in that a rescue may set: those that lead the SCF to convergence.

Source: the FHI-aims manual, section on the s.c.f. cycle, and FHI-aims' own reader of control.in.
"""


@dataclass(frozen=True)
class Keyword:
    """One line of control.in; FHI-aims reads as many words of it as it needs.

    Attributes:
        name: the first word.
        value: the rest, without comment.
        line: counted from 1.
        species: the species block that it stands in, or None.
    """

    name: str
    value: str
    line: int
    species: str | None

    @property
    def first(self) -> str:
        """The first word of the value."""
        return (self.value.split() or [""])[0]


@dataclass(frozen=True)
class ControlIn:
    """A control.in without contradictions to what this program does.

    Attributes:
        text: as the user wrote it.
        keywords: its lines, in order.
        species: species name -> its block of the text.
        charge: total charge in e.
        spin: whether the electrons are spin-polarised.
        unpaired: number of unpaired electrons (fixed spin moment), or None where it is free.
    """

    text: str
    keywords: tuple[Keyword, ...]
    species: Mapping[str, str]
    charge: float
    spin: Literal["none", "collinear"]
    unpaired: float | None

    def for_aims(
        self, elements: Iterable[str], periodic: bool, species_dir: Path | None = None
    ) -> str:
        """Write the control.in that the FHI-aims library gets.

        Args:
            elements: chemical symbols of the structures.
            periodic: whether they are periodic: then stress is computed too.
            species_dir: folder of species defaults, for elements without a block.

        Returns:
            The user's text, preceded by the settings that this program owns and followed by the
            species blocks that it lacks.

        Raises:
            InputError: a species block is nowhere to be found, or stress is switched off.
        """
        problems = self.stress_problems() if periodic else []
        blocks = []
        for element in elements:
            if element in self.species:
                continue
            path = species_file(element, species_dir)
            if path is None or not os.path.isfile(path):
                problems.append(missing_species(element, path))
            else:
                blocks.append(path.read_text(encoding="utf-8", errors="replace").rstrip() + "\n")
        if problems:
            raise InputError(problems)
        present = {keyword.name for keyword in self.keywords}
        owned = [*_OWNED, *([_OWNED_PERIODIC] if periodic else [])]
        head = "".join(f"{name} .true.\n" for name in owned if name not in present)
        return "\n".join([head + self.text.rstrip() + "\n", *blocks])

    def stress_problems(self) -> list[str]:
        """Say where the file switches off the stress that a periodic system needs."""
        return [
            f"{FILE}, line {keyword.line}: {keyword.name} {keyword.value}: the stress of a "
            "periodic system is needed; remove the line."
            for keyword in self.keywords
            if keyword.name == _OWNED_PERIODIC and keyword.first != ".true."
        ]

    def unused_keywords(self) -> list[str]:
        """List what engines other than FHI-aims do not use: all but charge and spin."""
        names = [
            keyword.name if keyword.species is None else f"species {keyword.species}"
            for keyword in self.keywords
            if keyword.name not in _TAKEN
        ]
        return list(dict.fromkeys(names))

    def with_keywords(self, changes: Mapping[str, str | None]) -> ControlIn:
        """Set keywords outside the species blocks, or remove them.

        Args:
            changes: keyword -> its new value, or None: every line of it is removed.

        Returns:
            The changed file; new lines stand at its top.
        """
        gone = {keyword.line for keyword in self.keywords if keyword.name in changes}
        lines = self.text.splitlines()
        kept = [line for number, line in enumerate(lines, start=1) if number not in gone]
        head = [f"{name} {value}" for name, value in changes.items() if value is not None]
        return parse_control("\n".join([*head, *kept]) + "\n")


def species_file(element: str, species_dir: Path | None) -> Path | None:
    """Name the file of an element's species defaults, such as `01_H_default`."""
    if species_dir is None:
        return None
    from ase.data import atomic_numbers

    return species_dir / f"{atomic_numbers[element]:02d}_{element}_default"


def missing_species(element: str, path: Path | None) -> str:
    """Say that the species block of an element is missing, and where it was looked for."""
    if path is None:
        return (
            f"{FILE} has no block `species {element}`, and no species_dir is given; add the block, "
            "or give REFERENCE.species_dir in active_learning_settings.yaml."
        )
    return (
        f"{FILE} has no block `species {element}`, and the file {path} does not exist; add the "
        "block, or correct species_dir in active_learning_settings.yaml."
    )


def parse_control(text: str) -> ControlIn:
    """Read a control.in.

    Args:
        text: the whole file.

    Raises:
        InputError: it moves atoms, switches off what is needed, or has a charge or spin that can't
            be read; all of that at once.
    """
    keywords = tuple(_keywords(text))
    problems = [problem for keyword in keywords for problem in _ownership(keyword)]
    charge = _single(keywords, "charge", problems)
    spin = _single(keywords, "spin", problems)
    moment = _single(keywords, "fixed_spin_moment", problems)
    multiplicity = _single(keywords, "multiplicity", problems)

    total_charge = _number(charge, problems) if charge else 0.0
    unpaired = _number(moment, problems) if moment else None
    if multiplicity:
        if moment:
            problems.append(_say(multiplicity, "fixed_spin_moment is given too; keep one of them"))
        unpaired = _number(multiplicity, problems) - 1
    if spin and spin.first not in ("none", "collinear"):
        problems.append(_say(spin, "expected none or collinear"))
    collinear = spin is not None and spin.first == "collinear"
    if (fixed := moment or multiplicity) and unpaired != 0 and not collinear:
        problems.append(_say(fixed, "needs `spin collinear`"))
    if problems:
        raise InputError(problems)
    return ControlIn(
        text=text,
        keywords=keywords,
        species=_species_blocks(text, keywords),
        charge=total_charge,
        spin="collinear" if collinear else "none",
        unpaired=unpaired,
    )


def _keywords(text: str) -> Iterable[Keyword]:
    species = None
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split(None, 1)
        if not words:
            continue
        name, value = words[0], words[1].strip() if len(words) > 1 else ""
        if name == "species":
            species = value.split()[0] if value else ""
        # A general keyword after a species block is legal; these occur nowhere else.
        inside = None if name in (*_TAKEN, *_OWNED, _OWNED_PERIODIC) else species
        yield Keyword(name, value, number, inside)


def _species_blocks(text: str, keywords: Iterable[Keyword]) -> dict[str, str]:
    lines = text.splitlines(keepends=True)
    starts = [
        (keyword.first, keyword.line - 1) for keyword in keywords if keyword.name == "species"
    ]
    ends = [line for _, line in starts[1:]] + [len(lines)]
    return {
        name: "".join(lines[start:end]) for (name, start), end in zip(starts, ends, strict=False)
    }


def _ownership(keyword: Keyword) -> Iterable[str]:
    name, value = keyword.name.lower(), keyword.first
    if name.startswith(_MOTION_PREFIXES) or name in _MOTION:
        if value != "none":
            yield _say(keyword, "this program moves the atoms itself; remove the line")
    elif name in _OWNED and value != ".true.":
        yield _say(keyword, "this program needs it `.true.`; remove the line")


def _single(keywords: Iterable[Keyword], name: str, problems: list[str]) -> Keyword | None:
    found = [keyword for keyword in keywords if keyword.name == name]
    if len(found) > 1:
        problems.append(_say(found[-1], f"already given in line {found[0].line}; keep one of them"))
    return found[0] if found else None


def _number(keyword: Keyword, problems: list[str]) -> float:
    try:
        number = float(keyword.first.lower().replace("d", "e"))  # Fortran writes 1.0d0
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        problems.append(_say(keyword, "expected a number"))
        return 0.0
    return number


def _say(keyword: Keyword, what: str) -> str:
    return f"{FILE}, line {keyword.line}: {keyword.name} {shown(keyword.value)[1:-1]}: {what}."
