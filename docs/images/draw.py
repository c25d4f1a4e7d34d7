"""Draws the pictures of README and pages: `python docs/images/draw.py RUN [NAME ...]`.

RUN is a run of `wirebert demo`; names are those of the files (default: all). Needs Chromium and DejaVu fonts.
"""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.segment import SegmentLines
from rich.terminal_theme import MONOKAI
from rich.text import Text

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


def command_picture(command: list[str], num_lines: int) -> str:
    """The first lines that a command prints on a terminal, as SVG without fonts from elsewhere."""
    environment = {**os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    program = [sys.executable, "-m", "wirebert", *command]
    printed = subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout
    lines = printed.splitlines()
    console = Console(record=True, width=WIDTH, force_terminal=True, file=io.StringIO())
    console.print(Text(f"$ wirebert {' '.join(command)}", style="bold"))
    console.print(Text.from_ansi("\n".join(lines[:num_lines])))
    if len(lines) > num_lines:
        console.print(Text(f"... {len(lines) - num_lines} more lines", style="dim"))
    svg = console.export_svg(title="wirebert", theme=MONOKAI)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace")


def draw_commands(run: Path, names: set[str]) -> None:
    """Write the pictures of commands."""
    commands = {
        "inspect.svg": (["inspect", str(run / "traffic" / "train.csv")], 29),
    }
    for name in names & set(commands):
        (FOLDER / name).write_text(command_picture(*commands[name]), encoding="utf-8")


def draw_pages(run: Path, names: set[str]) -> None:
    """Write the pictures of the report and of the dashboard."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        if "report.png" in names:
            page.goto((run / "report.html").resolve().as_uri())
            page.wait_for_timeout(1000)
            page.screenshot(path=FOLDER / "report.png")
        if "terminal.png" in names:
            page.set_content(terminal_page(run))
            page.locator("pre").screenshot(path=FOLDER / "terminal.png")
        browser.close()


def main() -> None:
    """Write the pictures beside this file."""
    run = Path(sys.argv[1])
    names = set(sys.argv[2:]) or {"report.png", "terminal.png", "inspect.svg"}
    draw_commands(run, names)
    draw_pages(run, names)


if __name__ == "__main__":
    main()
