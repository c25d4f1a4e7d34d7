"""The dashboard on a terminal: it uses the alternate screen during training and restores the terminal after
it.
"""

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

SECONDS_BETWEEN_POLLS: Final = 0.25
REST_TO_WORK: Final = 200.0
"""After each frame the thread sleeps this many times its CPU time, so that drawing takes at most 0.5 %."""

STILL_HEIGHT: Final = 30
SCREEN_END_S: Final = 2.0
NUM_LINES_KEPT: Final = 20
"""Evaluations that are printed to the terminal after the dashboard closes."""


def is_live(console: Console, environment: Mapping[str, str]) -> bool:
    """Whether to show a dashboard: the output is a capable terminal and not that of a build server."""
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
    """The listener for this output; use it as a context. A dashboard also shows the events of the `past`."""
    if is_live(console, environment):
        return Dashboard(console, DashboardState.of(past, title=title, hint=hint))
    return PlainLines(console)


def show_still(console: Console, state: DashboardState) -> None:
    """Print the dashboard once."""
    height = max(MIN_HEIGHT, min(console.size.height - 1, STILL_HEIGHT))
    console.print(SegmentLines(frame(state, console.size.width, height, 0.0), new_lines=True), end="")


@contextmanager
def _on_stop(hide: Callable[[], None], show: Callable[[], None]) -> Generator[None]:
    """Within this block, Ctrl-Z leaves the alternate screen before the process stops; `fg` returns to it."""
    previous = signal.getsignal(signal.SIGTSTP)
    if threading.current_thread() is not threading.main_thread() or previous is not signal.SIG_DFL:
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        hide()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, stop)
        show()

    signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, previous)


@final
class Dashboard:
    """A listener that draws the dashboard in a separate thread. Use it as a context.

    It draws after changes only, and sleeps so long that drawing takes at most 0.5 % of the time. Standard
    error is held back and printed after it.
    """

    def __init__(
        self, console: Console, state: DashboardState, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.state = state
        self._console, self._clock = console, clock
        self._events: SimpleQueue[tuple[Event, float]] = SimpleQueue()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)
        self._drawing = threading.Lock()
        self._is_dirty = True
        self._stderr = io.StringIO()
        self._stack = ExitStack()

    def __enter__(self) -> "Dashboard":
        self._stack.enter_context(redirect_stderr(self._stderr))
        self._stack.enter_context(_on_stop(self._hide, self._show))
        self._stack.callback(self._hide)
        self._show()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        try:
            self._thread.join(SCREEN_END_S)
        finally:
            self._stack.close()
        self._process_events()
        self._print_summary()
        sys.stderr.write(self._stderr.getvalue())

    def _show(self) -> None:
        with self._drawing:
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
            self._is_dirty = True

    def _hide(self) -> None:
        with self._drawing:
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)

    def receive(self, event: Event) -> None:
        """Queue the event for the next frame."""
        self.receive_at(event, self._clock())

    def receive_at(self, event: Event, time_s: float) -> None:
        """The same for an earlier event, with its time in seconds since 1970."""
        self._events.put((event, time_s))

    def _run(self) -> None:
        drawn: tuple[object, ...] = ()
        rest_s = 0.0
        while not self._is_closed.wait(max(SECONDS_BETWEEN_POLLS, rest_s)):
            began_s = time.thread_time()
            self._process_events()
            now_s, size = self._clock(), self._size()
            with self._drawing:
                if (self._is_dirty or (size, int(now_s)) != drawn) and self._console.is_alt_screen:
                    self._console.update_screen_lines(frame(self.state, *size, now_s))
                    drawn, self._is_dirty = (size, int(now_s)), False
            rest_s = REST_TO_WORK * (time.thread_time() - began_s)

    def _process_events(self) -> None:
        with suppress(Empty):
            while True:
                self.state.add(*self._events.get_nowait())
                self._is_dirty = True

    def _size(self) -> tuple[int, int]:
        """Current columns and lines: rich reads the environment, which does not follow a resized window."""
        try:
            size = os.get_terminal_size(self._console.file.fileno())
        except (OSError, ValueError):
            return self._console.size
        return size.columns, size.lines

    def _print_summary(self) -> None:
        """Print the start, the evaluations, the warnings and the end."""
        state = self.state
        lines = [] if state.start is None else [start_line(state.start)]
        evaluations = [epoch_line(event) for event in state.evaluations]
        if len(evaluations) > NUM_LINES_KEPT:
            lines.append("...")
        lines += evaluations[-NUM_LINES_KEPT:]
        lines += [f"warning: {message}" for message in state.warnings]
        lines += [] if state.end is None else [end_line(state.end)]
        for line in lines:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
