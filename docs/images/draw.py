"""Draws the README's two pictures: `python docs/images/draw.py RUN` (needs Chromium and DejaVu fonts)."""

import io
import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.segment import SegmentLines
from rich.terminal_theme import MONOKAI

from wirebert.telemetry.dashboard import frame
from wirebert.telemetry.events import EndEvent, MetricsFollower
from wirebert.telemetry.state import DashboardState

FOLDER = Path(__file__).parent
WIDTH, HEIGHT = 118, 27
PAGE = """<body style="margin: 0; background: {background}; color: {foreground}; width: max-content"><pre
style="margin: 16px; font: 14px/17.5px 'DejaVu Sans Mono', monospace">{code}</pre>
<style>{stylesheet} i {{display: inline-block; width: 8.43px; height: 17.5px; font-size: 11.5px;
font-style: normal; vertical-align: bottom}}</style></body>"""


def terminal_page(run: Path) -> str:
    """The dashboard of a run at nine tenths of its training, as a web page."""
    events = [
        one for one in MetricsFollower(run / "metrics.jsonl").new_events() if not isinstance(one[0], EndEvent)
    ]
    events = events[: len(events) * 9 // 10]
    state = DashboardState.of(events, title=str(run), hint="Ctrl-C stops; --resume continues")
    console = Console(
        record=True,
        width=WIDTH,
        height=HEIGHT,
        force_terminal=True,
        color_system="truecolor",
        file=io.StringIO(),
    )
    console.print(SegmentLines(frame(state, WIDTH, HEIGHT, events[-1][1]), new_lines=True), end="")
    page = console.export_html(theme=MONOKAI, code_format=PAGE)
    # The letters of DejaVu's braille are wider than its others: each gets a cell of the grid.
    return re.sub(r"[\u2800-\u28ff]", r"<i>\g<0></i>", page)


def main() -> None:
    """Write report.png and terminal.png beside this file."""
    run = Path(sys.argv[1])
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto((run / "report.html").resolve().as_uri())
        page.wait_for_timeout(1000)
        page.screenshot(path=FOLDER / "report.png")
        page.set_content(terminal_page(run))
        page.locator("pre").screenshot(path=FOLDER / "terminal.png")
        browser.close()


if __name__ == "__main__":
    main()
