"""Each tool's own reader sees what metrics.jsonl has."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from wirebert.errors import ConfigError
from wirebert.telemetry import trackers as trackers_module
from wirebert.telemetry.events import Event, WarningEvent
from wirebert.telemetry.trackers import TRACKERS, BackgroundTracker, Tool, event_metrics, open_trackers
from wirebert.training.config import TrainConfig

Tell = Callable[..., list[tuple[Event, float]]]
SETTINGS = {"seed": 7, "model": {"size": "mini"}, "training": {"epochs": 3, "trackers": ["mlflow"]}}


class Kept:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def receive(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine can be reached."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: object) -> None:
        is_local = self.family == socket.AF_UNIX or (
            isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1")
        )
        assert is_local, f"connects to {address}"
        connect(self, address)  # pyright: ignore[reportArgumentType] - whatever was given

    monkeypatch.setattr(socket.socket, "connect", local)


def write(name: str, folder: Path, events: list[tuple[Event, float]]) -> None:
    for module in TRACKERS[name].modules:
        pytest.importorskip(module)
    kept = Kept()
    with open_trackers([name], folder, SETTINGS, [kept]) as opened:
        for event, _ in events:
            opened[0].receive(event)
    assert kept.events == []  # nothing failed


def expected(events: list[tuple[Event, float]], name: str) -> list[tuple[int, float]]:
    return [(event.step, event_metrics(event)[name]) for event, _ in events if name in event_metrics(event)]


def test_numbers_have_the_names_of_the_file_and_flags_are_numbers(tell: Tell):
    names = {name for event, _ in tell(gpu=True) for name in event_metrics(event)}
    assert {"step/loss", "epoch/valid_macro_f1", "epoch/is_best", "resource/gpu_power_w"} <= names
    assert not any(name.endswith("/step") for name in names)
    assert "resource/gpu_power_w" not in {name for event, _ in tell() for name in event_metrics(event)}


@pytest.mark.usefixtures("offline")
def test_tensorboard_reads_every_number(tell: Tell, tmp_path: Path):
    events = tell(gpu=True)
    write("tensorboard", tmp_path, events)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(reader.scalars.Keys()) == {name for event, _ in events for name in event_metrics(event)}
    for name in ("step/loss", "epoch/valid_loss", "resource/gpu_share"):
        seen = [(scalar.step, scalar.value) for scalar in reader.Scalars(name)]
        assert seen == [(step, pytest.approx(value)) for step, value in expected(events, name)]


def test_tensorboard_drops_steps_that_a_resumed_training_makes_again(tell: Tell, tmp_path: Path):
    from dataclasses import replace

    events = tell(until=280)
    write("tensorboard", tmp_path, events)
    again = [
        (replace(events[0][0], step=200), 0.0),
        *((event, time_s) for event, time_s in tell() if event.step > 200),
    ]
    write("tensorboard", tmp_path, again)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [scalar.step for scalar in reader.Scalars("step/loss")] == list(range(20, 301, 20))


@pytest.mark.soak
@pytest.mark.usefixtures("offline")
@pytest.mark.filterwarnings("ignore:.*noload.*")  # of mlflow's own tables
def test_mlflow_reads_every_number_and_setting_also_after_a_resume(tell: Tell, tmp_path: Path):
    events = tell()
    middle = len(events) // 2
    write("mlflow", tmp_path, events[:middle])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "wirebert")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    write("mlflow", tmp_path, events[middle:])
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "seed": "7",
        "model.size": "mini",
        "training.epochs": "3",
        "training.trackers": "['mlflow']",
    }
    assert set(run.data.metrics) == {name for event, _ in events for name in event_metrics(event)}
    for name in ("step/loss", "epoch/valid_loss"):
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted((point.step, point.value) for point in history) == expected(events, name)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_wandb_reads_every_number_and_setting(tell: Tell, tmp_path: Path):
    events = tell()
    write("wandb", tmp_path, events)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    environment = os.environ | {"WANDB_ERROR_REPORTING": "false", "WANDB_MODE": "offline"}
    read = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
    )
    records = [json.loads(line) for line in read.stdout.splitlines()]
    config = next(record["run"]["config"]["update"] for record in records if record["type"] == "run")
    assert (config["seed"], config["model.size"], config["training.epochs"]) == (7, "mini", 3)
    rows = [record["history"] for record in records if record["type"] == "history"]
    for name in ("step/loss", "epoch/valid_loss"):
        seen = [(row["step"]["num"], row["item"][name]) for row in rows if name in row["item"]]
        assert seen == expected(events, name)
    assert {name for row in rows for name in row["item"] if "/" in name} == {
        name for event, _ in events for name in event_metrics(event)
    }


class Failing:
    """A sink that takes some events and then fails."""

    def __init__(self, num_taken: int) -> None:
        self.num_left = num_taken
        self.taken: list[Event] = []

    def receive(self, event: Event) -> None:
        if not self.num_left:
            raise OSError("the database is locked\nby someone")
        self.num_left -= 1
        self.taken.append(event)

    def close(self) -> None:
        """Nothing to do."""


def test_a_tracker_that_fails_gives_one_warning_and_training_continues(tell: Tell):
    failing, warnings = Failing(2), list[WarningEvent]()
    aside = BackgroundTracker("mlflow", lambda: failing, warnings.append)
    for event, _ in tell():
        aside.receive(event)
    aside.close()
    assert len(failing.taken) == 2
    assert [event.message for event in warnings] == [
        "mlflow stopped logging metrics (OSError: the database is locked); metrics.jsonl has them all"
    ]


def test_a_tracker_that_cannot_be_opened_gives_one_warning(tell: Tell):
    def fail() -> Failing:
        raise ValueError("no such store")

    warnings: list[WarningEvent] = []
    aside = BackgroundTracker("wandb", fail, warnings.append)
    for event, _ in tell():
        aside.receive(event)
    aside.close()
    assert [event.message for event in warnings] == [
        "wandb stopped logging metrics (ValueError: no such store); metrics.jsonl has them all"
    ]


def test_training_does_not_wait_for_a_slow_sink_and_closing_does(tell: Tell):
    goes_on = threading.Event()

    class Slow(Failing):
        def receive(self, event: Event) -> None:
            assert goes_on.wait(20)
            super().receive(event)

    slow = Slow(100)
    aside = BackgroundTracker("tensorboard", lambda: slow, lambda _: None)
    for event, _ in tell():
        aside.receive(event)
    assert slow.taken == []
    goes_on.set()
    aside.close()
    assert slow.taken == [event for event, _ in tell()]


def test_a_tool_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def never(folder: Path, settings: object) -> Failing:
        raise AssertionError("opened")

    monkeypatch.setattr(trackers_module, "TRACKERS", {"wandb": Tool(("no_such_module",), never)})
    with (
        pytest.raises(
            ConfigError, match=r"training\.trackers: wandb needs no_such_module.*'wirebert\[wandb\]'"
        ),
        open_trackers(["wandb"], tmp_path, {}, []),
    ):
        pass


def test_the_setting_offers_every_tracker():
    (choice, _) = get_args(get_type_hints(TrainConfig)["trackers"])
    assert get_args(choice) == tuple(TRACKERS)
