"""The dashboard on a terminal: it owns the screen while a training runs, and gives it back as it was."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final, final

from rich.console import Console
from rich.segment import SegmentLines

from wirebert.telemetry.dashboard import MIN_HEIGHT, frame
from wirebert.telemetry.events import Event
from wirebert.telemetry.plain_log import PlainLines, end_line, epoch_line, start_line
from wirebert.telemetry.state import DashboardState

SECONDS_BETWEEN_LOOKS: Final = 0.25
REST_TO_WORK: Final = 200.0
"""The screen is drawn so seldom that drawing takes at most this share (1 in 200) of the time."""

STILL_HEIGHT: Final = 30
SCREEN_END_S: Final = 2.0
NUM_LINES_KEPT: Final = 20
"""Evaluations that stay on the terminal when the dashboard has gone."""


def is_live(console: Console, environment: Mapping[str, str]) -> bool:
    """Whether a dashboard makes sense: the output is a terminal that can draw it, and no build server reads
    it."""
    can_draw = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
    return can_draw and not environment.get("CI")


def display(
    console: Console,
    environment: Mapping[str, str],
    *,
    title: str,
    hint: str,
    past: Iterable[tuple[Event, float]] = (),
) -> "Dashboard | PlainLines":
    """The listener that fits the output; use it as a context. A dashboard shows what came in the `past`,
    too."""
    if is_live(console, environment):
        return Dashboard(console, DashboardState.of(past, title=title, hint=hint))
    return PlainLines(console)


def show_still(console: Console, picture: DashboardState) -> None:
    """Draw the dashboard once, where the terminal is, as it stays."""
    height = max(MIN_HEIGHT, min(console.size.height - 1, STILL_HEIGHT))
    console.print(SegmentLines(frame(picture, console.size.width, height, 0.0), new_lines=True), end="")


@contextmanager
def _on_stop(leave: Callable[[], None], come_back: Callable[[], None]) -> Generator[None]:
    """Ctrl-Z in this block leaves the screen before the process stops, and comes back to it with `fg`."""
    before = signal.getsignal(signal.SIGTSTP)
    if threading.current_thread() is not threading.main_thread() or before is not signal.SIG_DFL:
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, stop)
        come_back()

    signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


@final
class Dashboard:
    """A listener that draws a picture of the training, in a thread of its own. Use it as a context.

    It draws when something has changed, and then rests long enough that drawing never takes more than a
    two-hundredth of the time. What is written to standard error meanwhile comes after it.
    """

    def __init__(
        self, console: Console, picture: DashboardState, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.picture = picture
        self._console, self._clock = console, clock
        self._events: SimpleQueue[tuple[Event, float]] = SimpleQueue()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)
        self._drawing = threading.Lock()
        self._is_new = True
        self._said = io.StringIO()
        self._stack = ExitStack()

    def __enter__(self) -> "Dashboard":
        self._stack.enter_context(redirect_stderr(self._said))
        self._stack.enter_context(_on_stop(self._hide, self._show))
        self._stack.callback(self._hide)
        self._show()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        try:
            self._thread.join(SCREEN_END_S)
        finally:
            self._stack.close()
        self._take_in()
        self._leave_lines()
        sys.stderr.write(self._said.getvalue())

    def _show(self) -> None:
        with self._drawing:
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
            self._is_new = True

    def _hide(self) -> None:
        with self._drawing:
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)

    def receive(self, event: Event) -> None:
        """Keep the event for the next drawing."""
        self.receive_at(event, self._clock())

    def receive_at(self, event: Event, time_s: float) -> None:
        """The same for an event that came earlier, in seconds since 1970."""
        self._events.put((event, time_s))

    def _run(self) -> None:
        drawn: tuple[object, ...] = ()
        rest_s = 0.0
        while not self._is_over.wait(max(SECONDS_BETWEEN_LOOKS, rest_s)):
            began_s = time.thread_time()
            self._take_in()
            now_s, size = self._clock(), self._size()
            with self._drawing:
                if (self._is_new or (size, int(now_s)) != drawn) and self._console.is_alt_screen:
                    self._console.update_screen_lines(frame(self.picture, *size, now_s))
                    drawn, self._is_new = (size, int(now_s)), False
            rest_s = REST_TO_WORK * (time.thread_time() - began_s)

    def _take_in(self) -> None:
        with suppress(Empty):
            while True:
                self.picture.add(*self._events.get_nowait())
                self._is_new = True

    def _size(self) -> tuple[int, int]:
        """Columns and lines as they are now: rich would go by the environment, which a resized window does
        not change."""
        try:
            size = os.get_terminal_size(self._console.file.fileno())
        except (OSError, ValueError):
            return self._console.size
        return size.columns, size.lines

    def _leave_lines(self) -> None:
        """What stays on the terminal: how the training began, its evaluations, and how it ended."""
        picture = self.picture
        lines = [] if picture.start is None else [start_line(picture.start)]
        evaluations = [epoch_line(event) for event in picture.evaluations]
        if len(evaluations) > NUM_LINES_KEPT:
            lines.append("...")
        lines += evaluations[-NUM_LINES_KEPT:]
        lines += [f"warning: {message}" for message in picture.warnings]
        lines += [] if picture.end is None else [end_line(picture.end)]
        for line in lines:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
