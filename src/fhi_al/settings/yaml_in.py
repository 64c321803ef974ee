"""Read the YAML of an input file, and refuse what YAML itself would pass over."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML would keep the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_text(path: Path, problems: list[str]) -> str | None:
    """Read a text file; None, and a sentence in `problems`, where that fails."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problems.append(f"{path.name} is missing in {path.parent}; put it there.")
    except UnicodeDecodeError as error:
        problems.append(f"{path.name}: not a UTF-8 text file ({error.reason}).")
    except OSError as error:
        problems.append(f"{path.name}: can't be read: {error.strerror}.")
    return None


def read_yaml(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """Read a YAML file of sections.

    Args:
        path: the file.
        problems: is extended by a sentence where it can't be read.

    Returns:
        Section name -> its content; empty for an empty file; None where there was a problem.
    """
    if (text := read_text(path, problems)) is None:
        return None
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        problems.append(f"{path.name}: not valid YAML{line}: {reason}.")
        return None
    except (ValueError, TypeError, RecursionError) as error:  # impossible dates, endless nesting
        problems.append(f"{path.name}: not valid YAML: {error}.")
        return None
    if data is None:
        return {}
    if not isinstance(data, dict):
        problems.append(f"{path.name}: expected sections such as `MD:` with settings in them.")
        return None
    return {str(key): value for key, value in data.items()}
