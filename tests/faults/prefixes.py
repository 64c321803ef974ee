"""Goes on from prefixes of a recorded journal: `prefixes.py FOLDER SIZE...`, all in one process.

Each time, the folder is copied, the journal is cut, and the command continues to its end. Printed
is one line a prefix: its size, and a digest of the datasets.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import sys
from pathlib import Path

from fhi_al.run.launch import launch
from fhi_al.run.task import Task


def digest(folder: Path) -> str:
    """Of all datasets, without what tells of host and seconds."""
    from ase.io import read

    found = hashlib.sha256()
    for name in ("train", "valid"):
        for atoms in read(folder / "data" / f"{name}.xyz", ":"):
            found.update(atoms.positions.tobytes() + atoms.arrays["REF_forces"].tobytes())
            found.update(atoms.info["fhi_al_key"].encode())
    return found.hexdigest()


def main(whole: Path, sizes: list[int]) -> None:
    print(f"all {digest(whole)}")
    lines = (whole / "restart" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for size in sizes:
        folder = whole.with_name(f"prefix{size}")
        shutil.copytree(whole, folder)
        (folder / "restart" / "journal.jsonl").write_bytes(b"".join(lines[:size]))
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = launch(Task("run"), folder)
        print(f"{size} {digest(folder) if code == 0 else output.getvalue()}", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])
