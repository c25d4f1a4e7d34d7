"""The dashboard as a person sees it: in a real terminal, which tmux is, with its keys and sizes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wirebert.run_folder import RunFolder, locked
from wirebert.telemetry.events import Event, MetricsLog

Tell = Callable[..., list[tuple[Event, float]]]
SECONDS_TO_WAIT = 120
NAMES = (
    *("loss", "accuracy", "macro-F1", "backbone LR", "classifier LR", "gradient norm", "loss scale"),
    *("rows/s", "tokens/s", "CPU", "memory", "free disk", "best loss"),
)
GPU_NAMES = ("GPU", "GPU memory", "this run", "GPU power", "GPU temperature")


class Terminal:
    """A shell in a terminal of its own."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self._socket = str(folder / "tmux")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("CI", "COLUMNS", "LINES", "NO_COLOR", "TMUX")
        }
        environment |= {"LC_ALL": "C.UTF-8", "PS1": "$ ", "TERM": "xterm-256color"}
        size = ["-x", str(width), "-y", str(height)]
        command = ["-u", "-f", os.devnull, "-S", self._socket, "new-session", "-d", *size, "sh -i"]
        subprocess.run(["tmux", *command], check=True, env=environment, timeout=20)

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-S", self._socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout

    def close(self) -> None:
        """End the shell and what runs in it."""
        self._tmux("kill-server")

    def wirebert(self, *arguments: str) -> None:
        """Start a command, which then says its exit code."""
        command = shlex.join([sys.executable, "-m", "wirebert", *arguments])
        self.press(f"clear; {command}; echo exit code $?", "Enter")

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    @property
    def is_given_back(self) -> bool:
        """Whether the ordinary screen is shown, with its cursor."""
        return self._tmux("display-message", "-p", "#{alternate_on}#{cursor_flag}").strip() == "01"

    def wait_for(self, pattern: str) -> str:
        """The screen, once it shows the pattern."""
        until = time.monotonic() + SECONDS_TO_WAIT
        while not re.search(pattern, screen := self.screen, re.MULTILINE):
            assert time.monotonic() < until, f"no {pattern!r} in:\n{screen}"
            time.sleep(0.1)
        return screen


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        assert not os.environ.get("CI"), "a build server has tmux: install it"
        pytest.skip("needs tmux; install it with the system's packages (apt-get install tmux)")
    opened = Terminal(tmp_path, 80, 24)
    yield opened
    opened.close()


def without_a_value(screen: str, names: tuple[str, ...]) -> list[str]:
    """Those of the names that no number stands beside."""
    return [name for name in names if not re.search(rf"│ {name} +[\d.,]+", screen)]


@pytest.mark.soak
def test_a_training_is_seen_at_any_size_stopped_with_a_key_and_gone_on_with(
    terminal: Terminal, traffic: Path, tiny: list[str], tmp_path: Path
):
    out = tmp_path / "run"
    longer = ["--set", "training.epochs=500", "--set", "training.log_every=1"]
    terminal.wirebert("train", str(traffic / "train.csv"), "--out", str(out), *tiny, *longer)
    terminal.wait_for(r"free disk +\d")
    screen = terminal.wait_for(r"after epoch +[2-9]")
    assert without_a_value(screen, NAMES) == []
    assert re.search(r"epoch [\d.]+/500 .*━.* \d+/5,500  elapsed 0:\d\d:\d\d  \d:\d\d:\d\d left", screen), (
        screen
    )
    assert re.search(r"─ loss [\d.]+ ─+╮╭─ validation loss [\d.]+ ─", screen)
    assert re.search("[\u2801-\u28ff]", screen)
    assert "--resume" in screen.splitlines()[23]
    assert "GPU" not in screen

    terminal.resize(200, 60)
    screen = terminal.wait_for(r"─ evaluations ─")
    assert without_a_value(screen, NAMES) == []
    assert "--resume" in screen.splitlines()[59]
    assert {len(line) for line in screen.splitlines()[2:56]} == {200}

    terminal.resize(80, 24)
    terminal.wait_for(r"^╭─ training ─{5,20}╮")
    terminal.press("C-c")
    screen = terminal.wait_for("exit code 130")
    assert terminal.is_given_back
    assert "interrupted" in screen
    stopped_at = int(re.findall(r"epoch (\d+): train loss", screen)[-1])

    terminal.wirebert("train", "--resume", str(out))
    screen = terminal.wait_for(rf"after epoch +(?!{stopped_at} )\d")
    assert re.search(r"step 1 to", screen)  # the curves begin where the training began
    terminal.press("C-c")
    terminal.wait_for("exit code 130")
    assert terminal.is_given_back


@pytest.mark.soak
def test_a_training_on_a_gpu_is_watched_until_it_ends(terminal: Terminal, tell: Tell, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.run_toml.touch()
    events = [event for event, _ in tell(gpu=True)]
    with locked(folder), MetricsLog(folder.metrics) as log:
        for event in events[:-1]:
            log.receive(event)
        terminal.wirebert("watch", str(folder.path))
        screen = terminal.wait_for(r"GPU temperature +65 °C")
        assert without_a_value(screen, (*NAMES, *GPU_NAMES)) == []
        terminal.resize(200, 60)
        screen = terminal.wait_for(r"─ evaluations ─")
        assert without_a_value(screen, (*NAMES, *GPU_NAMES)) == []
        assert re.search(r"─ GPU 88 % ─", screen)
        log.receive(events[-1])
        screen = terminal.wait_for("exit code 0")
    assert "trained 300 steps" in screen
    assert terminal.is_given_back


@pytest.mark.soak
def test_looking_on_is_left_with_a_key_and_a_stop_gives_the_screen_back(
    terminal: Terminal, tell: Tell, tmp_path: Path
):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.run_toml.touch()
    with locked(folder), MetricsLog(folder.metrics) as log:
        for event, _ in tell(until=200):
            log.receive(event)
        terminal.wirebert("watch", str(folder.path))
        terminal.wait_for("Ctrl-C leaves")
        terminal.press("C-z")
        terminal.wait_for("Stopped|suspended")
        assert terminal.is_given_back
        terminal.press("fg", "Enter")
        terminal.wait_for("Ctrl-C leaves")
        terminal.press("C-c")
        terminal.wait_for("exit code")
    assert terminal.is_given_back
