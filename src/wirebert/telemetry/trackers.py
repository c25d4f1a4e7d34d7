"""Tracking tools that can log the metrics of a run: TensorBoard, MLflow, Weights & Biases; all offline.

Each is a `Listener` that writes to the run folder and uses no network. Metrics are named as in
`metrics.jsonl`: kind of event, slash, field. To add a tool, write such a class and list it in `TRACKERS`.
"""

import logging
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, cast, final, runtime_checkable

from wirebert.errors import ConfigError
from wirebert.serialization import flatten
from wirebert.telemetry.events import (
    EndEvent,
    EpochEvent,
    Event,
    Listener,
    ResourceEvent,
    StartEvent,
    StepEvent,
    WarningEvent,
)

Settings = Mapping[str, object]
"""The flat settings of the run, for example `training.epochs`."""


def event_metrics(event: Event) -> dict[str, float]:
    """The finite numbers of an event by `kind/field`; empty for an event without curves.

    >>> from wirebert.telemetry.events import CheckpointEvent
    >>> event_metrics(CheckpointEvent(step=1, path="checkpoint-00000001"))
    {}
    """
    if not isinstance(event, StepEvent | EpochEvent | ResourceEvent):
        return {}
    values = {name: value for name, value in asdict(event).items() if name != "step"}
    return {
        f"{event.kind}/{name}": float(value)
        for name, value in values.items()
        if value is not None and isfinite(value)
    }


@final
class TensorBoardTracker:
    """Scalars in `RUN/tensorboard`, for `tensorboard --logdir`."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        del settings  # TensorBoard does not store settings
        self._records, self._summary = cast(Any, event_pb2), cast(Any, summary_pb2).Summary
        self._writer = EventFileWriter(str(folder / "tensorboard"))

    def receive(self, event: Event) -> None:
        """Append the metrics of the event."""
        if isinstance(event, StartEvent) and event.step > 0:
            # Steps after this one are repeated after an interruption: readers drop the old ones.
            again = self._records.SessionLog(status=self._records.SessionLog.START)
            self._writer.add_event(
                self._records.Event(wall_time=time.time(), step=event.step + 1, session_log=again)
            )
        values = [
            self._summary.Value(tag=name, simple_value=value) for name, value in event_metrics(event).items()
        ]
        if values:
            entry = self._records.Event(
                wall_time=time.time(), step=event.step, summary=self._summary(value=values)
            )
            self._writer.add_event(entry)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


@final
class MlflowTracker:
    """One run in the SQLite store `RUN/mlflow.db`, for `mlflow ui --backend-store-uri
    sqlite:///RUN/mlflow.db`."""

    EXPERIMENT: Final = "wirebert"

    def __init__(self, folder: Path, settings: Settings) -> None:
        os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # importing mlflow makes them log every table
            logging.getLogger(name).setLevel(logging.WARNING)
        self._metric = Metric
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder.absolute() / 'mlflow.db'}")
        experiment = self._client.get_experiment_by_name(self.EXPERIMENT)
        if experiment is None:  # else a resumed run continues its MLflow run
            artifacts = (folder.absolute() / "mlflow").as_uri()
            new_id = self._client.create_experiment(self.EXPERIMENT, artifact_location=artifacts)
            self._run_id = self._client.create_run(new_id, run_name=folder.name).info.run_id
            params = [Param(name, str(value)) for name, value in settings.items()]
            self._client.log_batch(self._run_id, params=params)
        else:
            self._run_id = self._client.search_runs([experiment.experiment_id])[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")

    def receive(self, event: Event) -> None:
        """Append the metrics of the event."""
        now_ms = int(1000 * time.time())
        metrics = [
            self._metric(name, value, now_ms, event.step) for name, value in event_metrics(event).items()
        ]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)
        if isinstance(event, EndEvent):
            self._client.set_terminated(self._run_id)

    def close(self) -> None:
        """Mark a run without an end event as killed."""
        if self._client.get_run(self._run_id).info.status == "RUNNING":
            self._client.set_terminated(self._run_id, status="KILLED")


@final
class WandbTracker:
    """An offline run in `RUN/wandb`: `wandb leet RUN/wandb` shows it, `wandb sync` can upload it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        # A resumed run keeps its id.
        earlier = sorted(folder.glob("wandb/offline-run-*"))
        self._run = wandb.init(
            mode="offline",
            project="wirebert",
            id=earlier[-1].name.rpartition("-")[2] if earlier else None,
            name=folder.name,
            dir=str(folder),
            config=dict(settings),
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )

    def receive(self, event: Event) -> None:
        """Append the metrics of the event."""
        values = event_metrics(event)
        if values:
            self._run.log(values, step=event.step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


@runtime_checkable
class Tracker(Listener, Protocol):
    """A listener with an open resource."""

    def close(self) -> None:
        """Close it; no event follows."""
        ...


class Tool(NamedTuple):
    """A tracking tool: the modules it needs, and how to open it."""

    modules: Sequence[str]
    open: Callable[[Path, Settings], Tracker]


TRACKERS: Final[Mapping[str, Tool]] = {
    "tensorboard": Tool(("tensorboard",), TensorBoardTracker),
    "mlflow": Tool(("mlflow", "sqlalchemy", "alembic"), MlflowTracker),
    "wandb": Tool(("wandb",), WandbTracker),
}


@final
class BackgroundTracker:
    """A listener that passes events to a tracker in a separate thread, so that training does not wait for it.

    A tracker that fails gives one warning and gets no more events; the training continues.
    """

    def __init__(
        self, name: str, open_tracker: Callable[[], Tracker], warn: Callable[[WarningEvent], None]
    ) -> None:
        self._name, self._warn = name, warn
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._tracker = self._thread.submit(open_tracker)
        self._has_failed = False
        self._step = 0
        self._tracker.add_done_callback(self._look)

    def receive(self, event: Event) -> None:
        """Queue the event for the thread."""
        self._step = event.step
        if not self._has_failed:
            self._thread.submit(lambda: self._tracker.result().receive(event)).add_done_callback(self._look)

    def close(self) -> None:
        """Wait until the tracker has all events."""
        if not self._has_failed:
            self._thread.submit(lambda: self._tracker.result().close()).add_done_callback(self._look)
        self._thread.shutdown()

    def _look(self, done: "Future[Tracker] | Future[None]") -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and not self._has_failed:
            self._has_failed = True
            reason = str(error).partition("\n")[0]
            message = (
                f"{self._name} stopped logging metrics ({type(error).__name__}: {reason}); metrics.jsonl "
                "has them all"
            )
            self._warn(WarningEvent(step=self._step, message=message))


@contextmanager
def open_trackers(
    names: Sequence[str], folder: Path, settings: Mapping[str, object], listeners: Sequence[Listener]
) -> Generator[list[BackgroundTracker]]:
    """The trackers of these names, which write to `folder`; `listeners` get a warning if one fails.

    Raises:
        ConfigError: a tool is not installed.
    """
    for name in names:
        missing = [module for module in TRACKERS[name].modules if find_spec(module) is None]
        if missing:
            raise ConfigError(
                f"training.trackers: {name} needs {' and '.join(missing)}, which is not installed; run pip "
                "install "
                f"'wirebert[{name}]'"
            )

    def warn(event: WarningEvent) -> None:
        for listener in listeners:
            listener.receive(event)

    flat = dict(flatten(settings))
    with ExitStack() as stack:
        trackers: list[BackgroundTracker] = []
        for name in names:
            tool = TRACKERS[name]
            tracker = BackgroundTracker(name, lambda tool=tool: tool.open(folder, flat), warn)
            stack.callback(tracker.close)
            trackers.append(tracker)
        yield trackers
