"""A folder in which a later version of the program has been at work."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from cli_runs import ask, write_inputs

from fhi_al.record.journal import FORMAT, Journal
from fhi_al.run.opening import join_run
from fhi_al.settings import load_inputs


@pytest.mark.parametrize(
    "command",
    [
        "FHI_AL",
        "FHI_AL-status",
        "FHI_AL-journal check",
        "FHI_AL-journal repair --until 1",
        "FHI_AL-report",
        "FHI_AL-export",
    ],
)
def test_every_command_refuses_a_newer_journal(command: str, tmp_path: Path) -> None:
    folder = write_inputs(tmp_path / "run")
    path = folder / "restart" / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(join_run(journal, "run", load_inputs(folder), "digest").opened)
    body = json.dumps({"t": 1.0, "format": FORMAT + 1, "event": "Begun", "by": "someone"}).encode()
    with path.open("ab") as file:
        file.write(b"1 %d %08x %s\n" % (len(body), zlib.crc32(body), body))
    before = path.read_bytes()
    name, *words = command.split()
    done = ask(folder, name, *words)
    text = done.stdout + done.stderr
    assert done.returncode == 2, text
    assert text.endswith(
        f"restart/journal.jsonl was written by a newer version of FHI_AL (journal format "
        f"{FORMAT + 1}; this version reads up to {FORMAT}): use that version, or start in another "
        "folder\n"
    )
    assert text.count("\n") == 1
    assert path.read_bytes() == before
