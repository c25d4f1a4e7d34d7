import fcntl
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from wirebert.cli.main import main
from wirebert.run_folder import RunFolder, is_at_work, locked
from wirebert.telemetry.events import Event, MetricsLog, to_record
from wirebert.workflows.watch import watch_run

Tell = Callable[..., list[tuple[Event, float]]]


def never(_: float) -> None:
    pytest.fail("waits for a training that is over")


def folder_with(path: Path, events: list[tuple[Event, float]]) -> RunFolder:
    path.mkdir(exist_ok=True)
    folder = RunFolder(path)
    folder.run_toml.touch()
    with MetricsLog(folder.metrics) as log:
        for event, _ in events:
            log.receive(event)
    return folder


def watched(folder: RunFolder, sleep: Callable[[float], None] = never, *, is_terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=100, height=40, color_system=None)
    watch_run(folder, console, {}, sleep=sleep)
    return out.getvalue()


def test_a_finished_training_is_told_at_once(tell: Tell, tmp_path: Path):
    lines = watched(folder_with(tmp_path / "run", tell())).splitlines()
    assert lines[0].startswith("training: 12,345 flows")
    assert lines[-1].startswith("trained 300 steps")


def test_a_finished_training_stands_still_on_a_terminal(tell: Tell, tmp_path: Path):
    text = watched(folder_with(tmp_path / "run", tell(gpu=True)), is_terminal=True)
    assert "612 W" in text
    assert "\x1b[?1049h" not in text


def test_a_running_training_is_followed_to_its_end(tell: Tell, tmp_path: Path):
    events = tell()
    folder = folder_with(tmp_path / "run", events[:20])
    rest = iter(events[20:])

    def go_on(_: float) -> None:
        folder_with(folder.path, [next(rest)])

    with locked(folder):
        text = watched(folder, go_on)
    assert "epoch 3" in text
    assert "trained 300 steps" in text
    assert next(rest, None) is None


def test_a_line_in_the_making_is_waited_for(tell: Tell, tmp_path: Path):
    import json

    events = tell()
    folder = folder_with(tmp_path / "run", events[:-1])
    end = json.dumps(to_record(events[-1][0], time_s=9e9)) + "\n"
    parts = iter([end[:40], end[40:]])

    def go_on(_: float) -> None:
        with folder.metrics.open("a") as file:
            file.write(next(parts))

    with locked(folder):
        assert "trained 300 steps" in watched(folder, go_on)


def test_a_training_that_starts_later_is_waited_for(tell: Tell, tmp_path: Path):
    (tmp_path / "run").mkdir()
    folder = RunFolder(tmp_path / "run")
    with locked(folder):
        text = watched(
            folder, lambda _: None if folder.metrics.exists() else void(folder_with(folder.path, tell()))
        )
    assert "trained 300 steps" in text


def void(_: object) -> None:
    """Drop a value."""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_interrupted_training_is_shown_with_the_way_on(
    tell: Tell, tmp_path: Path, is_terminal: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wirebert.workflows.watch.QUIET_S", 0.0)
    folder = folder_with(tmp_path / "run", tell(until=280))
    text = watched(folder, is_terminal=is_terminal)
    assert "0.7533" in text  # macro-F1 of the last evaluation
    assert f"wirebert train --resume {folder.path}" in text


def test_a_folder_without_a_run_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["watch", str(tmp_path)]) == 2
    assert "expected the folder of a run" in capsys.readouterr().err


def test_to_stop_looking_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    folder_with(tmp_path / "run", [])
    monkeypatch.setattr("wirebert.cli.report_commands.watch_run", stop)
    assert main(["watch", str(tmp_path / "run")]) == 0


def test_a_folder_is_at_work_while_it_is_locked(tmp_path: Path):
    folder = RunFolder(tmp_path)
    assert not is_at_work(folder)
    with locked(folder):
        assert is_at_work(folder)
    assert not is_at_work(folder)


def test_asking_leaves_the_lock_free(tmp_path: Path):
    folder = RunFolder(tmp_path)
    with locked(folder):
        pass
    is_at_work(folder)
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
