"""Files that are either there, whole and on the disk, or not there at all."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import h5py

from fhi_al.errors import StorageError

if TYPE_CHECKING:
    from ase import Atoms


def write_file(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Create or replace a file in one step.

    The contents are made in memory: libraries disguise the errors of the file system, and some
    (HDF5) don't survive them.

    Args:
        path: the file; its folder is made if need be.
        write: writes the contents to the binary file that it is given.
        durable: wait until the disk has it (artefacts that an event will name).

    Raises:
        StorageError: the file system refuses; an older file is as it was.
    """
    contents = io.BytesIO()
    write(contents)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, contents.getbuffer(), durable)
    except OSError as error:
        raise storage_error(path, error) from error


def _replace(path: Path, contents: memoryview, durable: bool) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            while contents:
                contents = contents[file.write(contents) :]
            os.fchmod(handle, 0o644)
            if durable:
                os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Create or replace a text file in one step."""
    write_file(path, lambda file: file.write(text.encode()), durable=durable)


def write_xyz(path: Path, frames: Sequence[Atoms]) -> None:
    """Create or replace a file of structures, with all that they carry, as extended XYZ."""
    import ase.io

    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    write_text(path, text.getvalue())


def write_hdf5(path: Path, write: Callable[[h5py.File], None], *, durable: bool = True) -> None:
    """Create or replace an HDF5 file in one step.

    It is made in memory, and to be opened with `locking=False`: Lustre and NFS often refuse HDF5's
    own locks, and a file here is written once, by one process.
    """

    def fill(output: BinaryIO) -> None:
        with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
            write(file)
            file.flush()
            output.write(file.id.get_file_image())

    write_file(path, fill, durable=durable)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Say which file could not be written, why, and what to do."""
    return StorageError(
        f"{path} can't be written: {error.strerror or error}. Nothing finished is lost: free space "
        "(or mend what the system complains about), and run the same command again"
    )


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def why_not_writable(path: Path) -> str | None:
    """Try whether files can be made in a folder, or in the one that it would be made in.

    Returns:
        What is wrong, or None.
    """
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"{path}: can't be written to ({error.strerror or error})"
