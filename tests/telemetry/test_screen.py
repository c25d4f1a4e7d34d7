import io
import sys
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from wirebert.telemetry import screen
from wirebert.telemetry.events import Event
from wirebert.telemetry.plain_log import PlainLines
from wirebert.telemetry.screen import Dashboard, display, show_still
from wirebert.telemetry.state import DashboardState

Tell = Callable[..., list[tuple[Event, float]]]
ALT_SCREEN_ON, ALT_SCREEN_OFF = "\x1b[?1049h", "\x1b[?1049l"
CURSOR_OFF, CURSOR_ON = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    """A terminal for what it is told."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def console_on(file: io.StringIO, environment: dict[str, str] | None = None) -> Console:
    return Console(
        file=file, width=80, height=24, color_system=None, _environ={"TERM": "xterm"} | (environment or {})
    )


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "nothing came in 20 seconds"
        time.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "SECONDS_BETWEEN_POLLS", 0.01)
    monkeypatch.setattr(screen, "REST_TO_WORK", 1.0)


@pytest.mark.parametrize(
    ("file", "environment", "kind"),
    [
        (Terminal(), {}, Dashboard),
        (Terminal(), {"CI": "true"}, PlainLines),
        (Terminal(), {"TERM": "dumb"}, PlainLines),
        (io.StringIO(), {}, PlainLines),
    ],
)
def test_a_dashboard_needs_a_terminal_and_no_build_server(
    file: io.StringIO, environment: dict[str, str], kind: type[Dashboard | PlainLines]
):
    listener = display(console_on(file, environment), environment, title="x", hint="")
    assert isinstance(listener, kind)


def test_a_terminal_that_knows_ascii_only_gets_plain_lines():
    class Old(Terminal):
        encoding = "ascii"

    assert isinstance(display(console_on(Old()), {}, title="x", hint=""), PlainLines)


@pytest.mark.usefixtures("quick")
def test_the_screen_is_given_back_with_what_is_worth_keeping(tell: Tell):
    terminal = Terminal()
    with Dashboard(console_on(terminal), DashboardState(title="runs/x", hint="press here")) as dashboard:
        assert terminal.getvalue().startswith(ALT_SCREEN_ON)
        assert CURSOR_OFF in terminal.getvalue()
        for event, time_s in tell():
            dashboard.receive_at(event, time_s)
        wait_for(lambda: "0.0667" in terminal.getvalue())  # the last loss
    drawn, _, left = terminal.getvalue().partition(CURSOR_ON + ALT_SCREEN_OFF)
    assert "press here" in drawn
    assert [line.partition(":")[0] for line in left.splitlines()] == [
        *("training", "epoch 1", "epoch 2", "epoch 3", "trained 300 steps in 0")
    ]


@pytest.mark.usefixtures("quick")
def test_the_screen_is_given_back_when_training_fails(tell: Tell):
    terminal = Terminal()
    with (
        pytest.raises(KeyboardInterrupt),
        Dashboard(console_on(terminal), DashboardState(title="x", hint="")),
    ):
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith(CURSOR_ON + ALT_SCREEN_OFF)


@pytest.mark.usefixtures("quick")
def test_what_is_said_on_standard_error_comes_after_the_dashboard(capsys: pytest.CaptureFixture[str]):
    with Dashboard(console_on(Terminal()), DashboardState(title="x", hint="")):
        print("careful", file=sys.stderr)
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "careful\n"


@pytest.mark.usefixtures("quick")
def test_a_terminal_that_hangs_holds_up_no_step(tell: Tell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(screen, "SCREEN_END_S", 0.1)
    goes_on, hangs = threading.Event(), threading.Event()

    class Hanging(Terminal):
        def write(self, text: str, /) -> int:
            if threading.current_thread() is not threading.main_thread() and not goes_on.is_set():
                hangs.set()
                goes_on.wait(20)
            return super().write(text)

    dashboard = Dashboard(console_on(Hanging()), DashboardState(title="x", hint=""))
    with dashboard:
        assert hangs.wait(20)
        began_s = time.perf_counter()
        for event, _ in tell():
            dashboard.receive(event)
        assert time.perf_counter() - began_s < 1.0
        goes_on.set()


def test_drawing_takes_a_two_hundredth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch, tell: Tell):
    times: list[float] = []

    def slow(*_: object) -> list[object]:
        until = time.thread_time() + 0.004
        while time.thread_time() < until:
            pass
        times.append(time.perf_counter())
        return []

    monkeypatch.setattr(screen, "SECONDS_BETWEEN_POLLS", 0.01)
    monkeypatch.setattr(screen, "frame", slow)
    with Dashboard(console_on(Terminal()), DashboardState(title="x", hint="")):
        wait_for(lambda: len(times) >= 2)
    assert times[1] - times[0] >= 200 * 0.004


def test_a_still_shows_the_figures_in_at_least_24_lines(tell: Tell):
    terminal = Terminal()
    show_still(console_on(terminal), DashboardState.of(tell(gpu=True), title="runs/x", hint=""))
    lines = terminal.getvalue().splitlines()
    assert len(lines) == 24
    assert all(part in terminal.getvalue() for part in ("runs/x", "elapsed 0:00:30  done", "612 W"))
