"""Make the pictures of the documentation from a run: `python docs/make_pictures.py DIR`.

DIR is the folder of a finished run of examples/ethanol. The status is drawn by rich, in the middle
of the run and at its end; the report is photographed by a headless Chromium.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI

from fhi_al.drawing import draw
from fhi_al.events import Labelled
from fhi_al.journal import Record, read_journal
from fhi_al.lock import Holder
from fhi_al.observe import observe
from fhi_al.procedures.run import step
from fhi_al.progress import Progress
from fhi_al.snapshot import Snapshot

PICTURES = Path(__file__).parent / "images"
WIDTH = 96  # columns
_WEB_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def main(run: Path) -> None:
    """Make all pictures.

    Args:
        run: folder of a finished run.
    """
    PICTURES.mkdir(exist_ok=True)
    records, _ = read_journal(run / "restart" / "journal.jsonl")
    half = sum(isinstance(record.event, Labelled) for record in records) // 2
    middle = _record_of_label(records, half)
    holder = Holder("node001", 4242, records[0].time, middle)
    live = _snapshot([record for record in records if record.time <= middle], holder)
    _draw(live, "FHI_AL-status --watch", PICTURES / "live.svg", bars=True)
    _draw(_snapshot(records, None), "FHI_AL-status", PICTURES / "status.svg", bars=False)
    _photograph(run / "results" / "report.html", PICTURES / "report.png", 1200, 1500)


def _record_of_label(records: list[Record], number: int) -> float:
    times = [record.time for record in records if isinstance(record.event, Labelled)]
    return times[number]


def _snapshot(records: list[Record], holder: Holder | None) -> Snapshot:
    state, progress = None, Progress()
    for record in records:
        state = step(state, record.event)
        progress.take(state, record.event, record.time)
    assert state is not None
    return observe(state, progress, records[-1].time, holder, "ethanol")


def _draw(snapshot: Snapshot, title: str, path: Path, *, bars: bool) -> None:
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False
    )
    console.print(draw(snapshot, bars=bars))
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id=path.stem)
    # Nothing in the documentation is loaded from the network.
    path.write_text(_WEB_FONT.sub("", svg), encoding="utf-8")


def _photograph(page: Path, path: Path, width: int, height: int) -> None:
    """Have a browser draw the upper part of a page.

    Args:
        page: HTML file.
        path: of the picture, PNG.
        width: in pixels.
        height: likewise.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("the report can't be photographed: install chromium")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                f"--user-data-dir={folder}",
                f"--window-size={width},{height}",
                "--virtual-time-budget=10000",
                f"--screenshot={path}",
                page.absolute().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    # Few colours, so that the repository stays small.
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(
        path, optimize=True
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
