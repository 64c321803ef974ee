"""Input files to begin with: the templates that come with the package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from fhi_al.atoms.structure import Structure
from fhi_al.cli.templates import TEMPLATES
from fhi_al.errors import InputError
from fhi_al.record.files import write_text
from fhi_al.settings.geometries import read_geometries
from fhi_al.settings.geometry_in import FILE as GEOMETRY_FILE
from fhi_al.settings.geometry_in import format_geometry


def write_template(name: str, directory: Path, geometry: str | None = None) -> list[Path]:
    """Write the input files of a template. No file that is there is overwritten.

    Args:
        name: a key of `TEMPLATES`.
        directory: where to; made if need be.
        geometry: file with the structure to start from, in any format of ASE (`file@3` for the
            fourth of several); None: that of the template.

    Returns:
        The files.

    Raises:
        InputError: files are there already, or the structure can't be read or doesn't fit.
    """
    texts = {file.name: file.read_text(encoding="utf-8") for file in _files(name)}
    if geometry is not None:
        texts[GEOMETRY_FILE] = _geometry(name, geometry)
    if there := [file for file in texts if (directory / file).exists()]:
        raise InputError(
            f"{directory.absolute()}: {', '.join(there)} {'is' if len(there) == 1 else 'are'} "
            "there already, and would be overwritten; give another folder with --directory, or "
            "move them away"
        )
    for file, text in texts.items():
        write_text(directory / file, text)
    return [directory / file for file in texts]


def _files(name: str) -> Iterator[Traversable]:
    folder = resources.files("fhi_al.cli") / "templates" / name
    yield from sorted((file for file in folder.iterdir() if file.is_file()), key=lambda f: f.name)


def _geometry(name: str, source: str) -> str:
    """The user's structure as a geometry.in."""
    structure = _read(source)
    wanted = TEMPLATES[name].periodic
    if wanted is not None and structure.periodic != wanted:
        found, expected = ("crystal", "molecule") if structure.periodic else ("molecule", "crystal")
        also = [other for other, t in TEMPLATES.items() if t.periodic in (None, not wanted)]
        raise InputError(
            f"{source}: the structure is a {found} (periodic: {structure.pbc.tolist()}), but the "
            f"template {name} is for a {expected}; use one of {', '.join(also)}, or correct the "
            "file"
        )
    if structure.periodic and not structure.pbc.all():
        raise InputError(
            f"{source}: the structure is periodic along some directions only "
            f"({structure.pbc.tolist()}), which geometry.in can't say; make it periodic along all, "
            "with vacuum, or name the file itself in ACTIVE_LEARNING.geometry of "
            "active_learning_settings.yaml"
        )
    heading = f"# {structure.formula}, from {Path(source).name}. Lengths in angstrom.\n"
    return heading + format_geometry(structure)


def _read(source: str) -> Structure:
    path, _, index = source.partition("@")
    problems: list[str] = []
    found = read_geometries([Path(path)], problems)
    if found is None:
        raise InputError(problems)
    if index:
        try:
            return found[int(index)].structure
        except (ValueError, IndexError):
            raise InputError(
                f"{source}: got {index!r} after the @, expected the number of one of the "
                f"{len(found)} structures in {path}, from 0"
            ) from None
    if len(found) > 1:
        raise InputError(
            f"{path} holds {len(found)} structures, but geometry.in has one; choose one, such as "
            f"the first with {path}@0, or name the whole file in ACTIVE_LEARNING.geometry of "
            "active_learning_settings.yaml afterwards: then trajectories start from all of them"
        )
    return found[0].structure
