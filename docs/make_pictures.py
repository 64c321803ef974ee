"""Make the pictures of the documentation from a run: `python docs/make_pictures.py DIR`.

DIR is the folder of a finished run of examples/ethanol. The status is drawn by rich, in the middle
of the run and at its end; the report is photographed by a headless Chromium.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console, RenderableType
from rich.terminal_theme import MONOKAI
from rich.text import Text

from fhi_al.analysis.progress import Progress
from fhi_al.folder.lock import Holder
from fhi_al.monitor.drawing import draw
from fhi_al.monitor.observe import observe
from fhi_al.monitor.snapshot import Snapshot
from fhi_al.procedures.run import step
from fhi_al.record.events import Labelled
from fhi_al.record.journal import Record, read_journal

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
    labels = [record.time for record in records if isinstance(record.event, Labelled)]
    middle = labels[len(labels) // 2]
    _draw(
        "mpirun -n 3 FHI_AL",
        PICTURES / "live.svg",
        *_log_lines(run / "AL.log", middle, 4),
        draw(_snapshot(records, middle), bars=True),
    )
    _draw("FHI_AL-status", PICTURES / "status.svg", draw(_snapshot(records, None)))
    _photograph(run / "results" / "report.html", PICTURES / "report.png", 1200, 1120)


def _log_lines(log: Path, until: float, count: int) -> list[Text]:
    """The newest lines of a log file at a time."""
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until))
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line[:19] <= now]
    return [Text(line) for line in lines[-count:]]


def _snapshot(records: Sequence[Record], until: float | None) -> Snapshot:
    """Sum up a run at its end, or as if it were at work at a time before."""
    state, progress = None, Progress()
    for record in records:
        if until is not None and record.time > until:
            break
        state = step(state, record.event)
        progress.take(state, record.event, record.time)
    assert state is not None
    if until is None:
        return observe(state, progress, records[-1].time, None, "ethanol")
    holder = Holder("node001", 4242, records[0].time, until)
    return observe(state, progress, until, holder, "ethanol")


def _draw(title: str, path: Path, *parts: RenderableType) -> None:
    """Draw a terminal window.

    Args:
        title: of the window.
        path: of the picture, SVG.
        parts: what was printed.
    """
    file = io.StringIO()
    console = Console(record=True, width=WIDTH, file=file, force_terminal=True, highlight=False)
    console.print(*parts, sep="\n")
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="DIR", help="folder of a finished run")
    main(parser.parse_args().run)
