"""Write docs/settings.md from the settings classes: `make docs`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fhi_al.record.registry import Registry
from fhi_al.settings import AL_FILE, MACE_FILE
from fhi_al.settings.active_learning import ActiveLearning, Misc, Parallel
from fhi_al.settings.base import Among, OneOf, Section
from fhi_al.settings.engine import ReferenceSettings
from fhi_al.settings.mace import Architecture, General, MaceMisc, Training
from fhi_al.settings.md import MdSettings
from fhi_al.settings.reference import ENGINES

PAGE = Path(__file__).parent / "settings.md"

INTRODUCTION = f"""\
# Settings

<!-- Written by `make docs` from the settings classes in src/fhi_al/settings; change those. -->

A run has four input files: `control.in` and `geometry.in` as for FHI-aims, and the two YAML files
described here. Every setting but `REFERENCE.engine` has a default or can be left out, except those
marked *must be given*. A key that is not listed here stops the run, with the nearest valid name.
Relative paths start at the folder of the run. The settings in force, defaults included, are
written to `results/settings/resolved/`.

The smallest `{AL_FILE}`:

```yaml
REFERENCE:
  engine: xtb
ACTIVE_LEARNING: {{initial_sampling: perturb}}
```

`control.in` goes to FHI-aims (`engine: asi`) as it is, with forces (and, for periodic systems,
stress) switched on and missing species blocks added from `species_dir`. Keywords that move atoms
are refused. The other engines take charge and spin from it, and need no such file.
"""

_TYPES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    NoneType: "none",
}
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        INTRODUCTION,
        f"## {MACE_FILE}\n",
        *(_section(kind) for kind in (General, Architecture, Training, MaceMisc)),
        f"## {AL_FILE}\n",
        _section(ActiveLearning),
        _section(MdSettings),
        "### REFERENCE\n\nThe method that labels structures. Without this section, "
        "`ACTIVE_LEARNING.aims_lib_path` and `species_dir` together mean `engine: asi`.\n",
        *(_engine(name, kind.section) for name, kind in ENGINES.items()),
        _section(Parallel),
        _section(Misc),
    ]
    return "\n".join(parts)


def _engine(name: str, kind: type[ReferenceSettings]) -> str:
    """The section of an engine, with what it says of itself."""
    facts = [
        f"A calculation uses {'all ranks' if kind.parallel else 'one rank'} of its group.",
        f"Structures: {', '.join(kind.kinds())}.",
        "All of `control.in` is its input." if kind.reads_control else "",
    ]
    return _section(kind, f"#### engine: {name}", " ".join(filter(None, facts)))


def _section(kind: type[Section], title: str | None = None, more: str = "") -> str:
    introduction = " ".join([*(kind.__doc__ or "").split(), *more.split()])
    if title is None:
        name, _, introduction = introduction.partition(": ")
        title = f"### {name}"
    introduction = introduction[0].upper() + introduction[1:]
    lines = [title, "", introduction, "", "| setting | value | default | meaning |"]
    lines.append("| --- | --- | --- | --- |")
    lines += _rows(kind)
    return "\n".join(lines) + "\n"


def _rows(kind: type[Section]) -> Iterable[str]:
    for name, field in kind.model_fields.items():
        values = _values(field.annotation, field.metadata)
        default = "*must be given*" if field.is_required() else _default(field.default)
        meaning = " ".join(
            [*(field.description or "").split(), *_choices(field.annotation, field.metadata)]
        )
        cells = (f"`{name}`", values, default, meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _choices(annotation: Any, metadata: Iterable[Any]) -> Iterable[str]:
    """What a setting that takes its choices from a registry chooses between, in words."""
    if get_origin(annotation) is tuple:
        (annotation, *_), metadata = get_args(annotation), ()
    if get_origin(annotation) is Annotated:
        metadata = get_args(annotation)[1:]
    for registry in _registries(metadata):
        yield "; ".join(f"`{name}`: {choice.words}" for name, choice in registry.items()) + "."


def _registries(metadata: Iterable[Any]) -> list[Registry[Any]]:
    return [item.registry for item in metadata if isinstance(item, Among)]


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple) and len(value) == 1:
        (value,) = value
    if isinstance(value, Path):
        value = str(value)
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _values(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a setting can be, in words.

    Args:
        annotation: its type.
        metadata: of an `Annotated` type, with its bounds.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(arguments[0], [*metadata, *arguments[1:]])
    if origin in (Union, UnionType):
        return " or ".join(_values(option) for option in arguments)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"{_values(arguments[0])}, or a list"
    for registry in _registries(metadata):
        names = ", ".join(f"`{name}`" for name in registry)
        return names if any(isinstance(item, OneOf) for item in metadata) else f"{names} or text"
    if origin is dict:
        return "key: value pairs"
    limits = [item for data in metadata for item in getattr(data, "metadata", [data])]
    bounds = [
        f"{sign} {getattr(limit, name):.10g}"
        for name, sign in _BOUNDS.items()
        for limit in limits
        if getattr(limit, name, None) is not None
    ]
    return f"{_TYPES[annotation]} {', '.join(bounds)}".strip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
