"""What all sections share: types of settings, unknown and renamed keys, and sentences for problems.

Every setting is documented by the string under it, from which the reference page is made.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticKnownError
from pydantic_core.core_schema import no_info_plain_validator_function

from fhi_al.record.registry import Registry

MACE_FILE = "mace_settings.yaml"
AL_FILE = "active_learning_settings.yaml"


class Section(BaseModel):
    """A section of an input file: immutable, picklable, no key beyond its fields.

    Attributes:
        renamed: old name -> the name that took its place; the old one works.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        # Where both names are given the old one stays, and is then refused as an unknown key.
        return {
            cls.renamed[key] if key in cls.renamed and cls.renamed[key] not in data else key: value
            for key, value in data.items()
        }

    @model_validator(mode="after")
    def _agree(self) -> Section:
        if found := list(self.disagreements()):
            raise ValueError("\n".join(found))
        return self

    def disagreements(self) -> Iterator[str]:
        """Say what is wrong between settings that are each valid, one sentence each."""
        yield from ()

    def given(self, name: str) -> bool:
        """Whether the user gave this setting, under its name or an old one."""
        return name in self.model_fields_set


# --- types of settings -------------------------------------------------------------------------


def _no_bool(error: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would take `yes` for 1
            raise PydanticKnownError(error)  # type: ignore[arg-type]
        return value

    return BeforeValidator(check)


def expand_path(value: Any, info: ValidationInfo) -> Any:
    """Expand `~` and `$VARIABLES`, and make the path absolute in the run's directory."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("expected a path")
    expanded = os.path.expanduser(os.path.expandvars(value))
    if missing := re.search(r"\$(\w+|\{\w+\})", expanded):
        raise ValueError(f"expected a path, but {missing[0]} is not set in the environment")
    directory = (info.context or {}).get("directory")
    return Path(directory, expanded) if directory is not None else Path(expanded)


def _is_file(path: Path) -> Path:
    # os.path, because Path.is_file raises on names that no file can have.
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {path}")
    return path


def _split(value: Any) -> Any:
    return [value] if isinstance(value, (str, Path)) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Integer = Annotated[int, _no_bool("int_type")]
Count = Annotated[Integer, Field(ge=1)]
NonNegativeInteger = Annotated[Integer, Field(ge=0)]
Seed = Annotated[Integer, Field(ge=0, lt=2**32)]
Number = Annotated[float, _no_bool("float_type")]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
RunPath = Annotated[Path, BeforeValidator(expand_path)]
"""A path, relative to the run's directory."""
RunPaths = Annotated[tuple[RunPath, ...], BeforeValidator(_split), Field(min_length=1)]
"""One path or a list of them, which may be folders."""
RunFile = Annotated[RunPath, AfterValidator(_is_file)]
"""The path of a file that exists."""
RunFiles = Annotated[tuple[RunFile, ...], BeforeValidator(_split), Field(min_length=1)]
"""One path or a list of them."""
AnyCase = BeforeValidator(_lower)


@dataclass(frozen=True)
class Among:
    """Has the reference page say what stands in a registry: `Annotated[str, Among(REGISTRY)]`.

    Attributes:
        registry: to choose from.
    """

    registry: Registry[Any]


class OneOf(Among):
    """The name of an entry of a registry, in any case: `Annotated[str, OneOf(REGISTRY)]`."""

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any) -> str:
            if not isinstance(value, str):
                raise ValueError(self.registry.expected())
            return self.registry.name(value)

        return no_info_plain_validator_function(check)


# --- from data to a section, or to sentences ---------------------------------------------------

S = TypeVar("S", bound=Section)


def parse_section(
    kind: type[S], data: Any, *, file: str, name: str, directory: Path, problems: list[str]
) -> S | None:
    """Build a section from what stands in a file.

    Args:
        kind: the section's class.
        data: what YAML gave; None for an empty section.
        file: name of the file, for messages.
        name: name of the section, for messages.
        directory: that relative paths are relative to.
        problems: is extended by one sentence for every problem.

    Returns:
        The section, or None where there were problems.
    """
    data = {} if data is None else data
    if not isinstance(data, Mapping):
        problems.append(f"{file}: {name}: got {shown(data)}, expected settings as `key: value`.")
        return None
    data = {str(key): value for key, value in data.items()}
    written = {new: old for old, new in kind.renamed.items() if old in data}
    try:
        return kind.model_validate(data, context={"directory": directory})
    except ValidationError as error:
        for details in error.errors(include_url=False):
            problems += _sentences(kind, written, details, f"{file}: {name}")
        return None


def unknown(where: str, key: str, known: Iterable[str], what: str = "a setting") -> str:
    """Say that a key does not exist, and which one is near.

    Args:
        where: file and section that the key stands in.
        key: what the user wrote.
        known: all valid names.
        what: the thing that it is not.
    """
    names = list(known)
    return f"{where}{key} is not {what}; {_nearest(key, names)}"


def _nearest(key: str, names: list[str]) -> str:
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"did you mean {by_lower[near[0]]}?"
    return f"the valid names are {', '.join(names)}."


def shown(value: Any) -> str:
    """Show what a user gave, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "tuple": "a list",
    "list": "a list",
    "dict": "`key: value` pairs",
    "mapping": "`key: value` pairs",
}
_LIMITS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


def _sentences(
    kind: type[Section], written: Mapping[str, str], details: ErrorDetails, where: str
) -> list[str]:
    """Turn one of pydantic's errors into ours; `written`: new -> old name, where that was used."""
    loc, error, value = details["loc"], details["type"], details["input"]
    context = details.get("ctx", {})
    key = ".".join(str(part) for part in loc)
    if error not in ("extra_forbidden", "missing"):
        key = ".".join([written.get(str(part), str(part)) for part in loc])
    if error == "extra_forbidden":
        if key in kind.renamed:
            new = kind.renamed[key]
            return [f"{where}.{key} is the old name of {new}; both are given, keep only {new}."]
        return [unknown(f"{where}.", key, [*kind.model_fields, *kind.renamed])]
    if error == "missing":
        return [f"{where}.{key} is missing; {_purpose(kind, key)}"]
    if error == "value_error" and not loc:
        return [f"{where}: {line}" for line in str(context["error"]).splitlines()]
    if error == "value_error":
        expected = str(context["error"])
        expected = expected if expected.startswith("expected") else f"but {expected}"
    elif error == "literal_error":
        expected = f"expected {context['expected']}"
        if isinstance(value, str):
            options = re.findall(r"'([^']*)'", context["expected"])
            near = difflib.get_close_matches(value, options, n=1)
            expected += f" (did you mean {near[0]}?)" if near else ""
    elif error in _LIMITS:
        name, sign = _LIMITS[error]
        expected = f"expected a number {sign} {context[name]}"
    elif error in ("int_from_float", "int_parsing_size"):
        expected = "expected a whole number"
    else:
        stem = error.removesuffix("_type").removesuffix("_parsing")
        expected = f"expected {_EXPECTED[stem]}" if stem in _EXPECTED else details["msg"]
    return [f"{where}.{key}: got {shown(value)}, {expected}."]


def _purpose(kind: type[Section], key: str) -> str:
    field = kind.model_fields.get(key)
    text = " ".join(((field and field.description) or "it must be given.").split())
    return text[0].lower() + text[1:]
