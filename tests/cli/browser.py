"""Opens pages in a headless Chromium, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@dataclass
class Drawn(HTMLParser):
    """What is in a page once its scripts have run.

    Attributes:
        console: lines that the page wrote to the console, errors included.
        traces: name of a chart -> series drawn in it.
        axes: name of a chart -> pairs of axes drawn in it.
    """

    console: list[str] = field(default_factory=list)
    traces: dict[str, int] = field(default_factory=dict)
    axes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._chart = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        kinds = (given.get("class") or "").split()
        if tag == "figure":
            self._chart = (given.get("id") or "").removeprefix("figure-")
            self.traces[self._chart] = self.axes[self._chart] = 0
        elif tag == "g" and self._chart and "trace" in kinds:
            self.traces[self._chart] += 1
        elif tag == "g" and self._chart and "subplot" in kinds:
            self.axes[self._chart] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "figure":
            self._chart = ""


def open_page(path: Path, folder: Path) -> Drawn:
    """Open a page.

    Args:
        path: of the page.
        folder: for what the browser keeps.
    """
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
            f"--user-data-dir={folder}",
            "--enable-logging=stderr",
            "--window-size=1300,1000",
            "--virtual-time-budget=10000",
            "--dump-dom",
            path.absolute().as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    drawn = Drawn(re.findall(r".*CONSOLE.*", done.stderr))
    drawn.feed(done.stdout)
    return drawn
