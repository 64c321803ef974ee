"""Files that are either there, whole and on the disk, or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py

# Lustre and NFS often refuse HDF5's own locks; a file here is written once, by one process.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")


def write_file(path: Path, write: Callable[[Path], None], *, durable: bool = True) -> None:
    """Create or replace a file in one step.

    Args:
        path: the file; its folder is made if need be.
        write: writes the contents to the temporary path that it is given, in the same folder.
        durable: wait until the disk has it (artefacts that an event will name).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        if durable:
            sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Create or replace a text file in one step."""
    write_file(path, lambda temporary: _write_text(temporary, text), durable=durable)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_hdf5(path: Path, write: Callable[[h5py.File], None], *, durable: bool = True) -> None:
    """Create or replace an HDF5 file in one step."""

    def fill(temporary: Path) -> None:
        with h5py.File(temporary, "w", locking=False) as file:
            write(file)

    write_file(path, fill, durable=durable)


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
