"""What a training says while it runs: events, and the file they are kept in.

`metrics.jsonl` holds one JSON object a line. Every line has `v` (this schema's version), `event` (its kind),
`time` (seconds since 1970) and `step` (optimizer steps done); the other fields are those of the kind's
dataclass below. A number that is not finite, or not known, is null. The file may be read while it is written:
lines come whole, one flush each. A training that goes on after an interruption replaces the file by one
without the steps that are made again. A kind or a field may be added under the same version, so readers pass
over what they do not know.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from math import isfinite, nan
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final, Protocol, TextIO, cast, final, get_args, runtime_checkable

from wirebert.files import write_atomic

VERSION: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class StartEvent:
    """Training starts, or goes on after an interruption."""

    kind: ClassVar[str] = "start"
    step: int
    """Steps done already: above 0 in a resumed training."""

    num_steps: int
    num_epochs: int
    num_train: int
    num_valid: int
    num_parameters: int
    batch_size: int
    device: str
    precision: str
    seed: int
    num_ranks: int = 1
    """Processes that train together; `device` is the first one's."""

    feeding: str = ""
    """Who makes flows ready, and from where, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEvent:
    """What the steps since the last such event amount to."""

    kind: ClassVar[str] = "step"
    step: int
    epoch: float
    """Passes over the training flows so far: 1.5 is halfway through the second."""

    loss: float
    """Mean over the flows."""

    accuracy: float
    """Share of right answers, with dropout and corruption on."""

    lr_backbone: float
    """Of the last step."""

    lr_classifier: float
    grad_norm: float
    """Of the last step, before clipping."""

    loss_scale: float
    """Factor on the loss that keeps fp16 gradients in range; 1 at other precisions."""

    overflows: int
    """Steps since training started whose fp16 gradients overflowed and changed nothing."""

    micro_batch_tokens: int
    """Padded tokens of one forward pass at most; 0 is the whole step."""

    rows_per_s: float
    tokens_per_s: float
    """Without padding."""

    elapsed_s: float
    """Seconds of training, those before an interruption included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochEvent:
    """An evaluation on the validation flows: one after each epoch, or every training.evaluate_every steps."""

    kind: ClassVar[str] = "epoch"
    step: int
    epoch: float
    train_loss: float
    """Mean over the flows since the evaluation before."""

    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    valid_macro_f1: float
    is_best: bool
    """Whether this is the lowest validation loss so far."""

    lr_backbone: float
    lr_classifier: float
    rows_per_s: float
    elapsed_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointEvent:
    """A checkpoint is on disk; training went on while it was written."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    path: str
    """Name of its folder, which says the step that it is of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WarningEvent:
    """Something the user should know, in one sentence."""

    kind: ClassVar[str] = "warning"
    step: int
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceEvent:
    """What the training takes of the machine, once a second; null where the machine does not tell."""

    kind: ClassVar[str] = "resource"
    step: int
    """Of the event before: the steps since are not counted."""

    cpu_share: float | None
    """Share of the time of all processors that anything ran on them since the sample before, in [0, 1]."""

    process_cpu_share: float | None
    """The same for this training alone."""

    resident_bytes: int | None
    """Memory of this training."""

    memory_free_bytes: int | None
    """Memory of the machine that is still to be had."""

    disk_free_bytes: int | None
    """Where the run folder is."""

    gpu_share: float | None
    """Share of the time that anything ran on the GPU, in [0, 1]. This and what follows: the GPU that is
    trained on."""

    gpu_memory_used_bytes: int | None
    """By all programs."""

    gpu_memory_total_bytes: int | None
    gpu_memory_allocated_bytes: int | None
    """By this training's tensors."""

    gpu_power_w: float | None
    gpu_temperature_c: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EndEvent:
    """Training is done."""

    kind: ClassVar[str] = "end"
    step: int
    best_step: int
    best_valid_loss: float
    stopped_early: bool
    elapsed_s: float


Event = StartEvent | StepEvent | EpochEvent | CheckpointEvent | WarningEvent | ResourceEvent | EndEvent

KINDS: Final[Mapping[str, type[Event]]] = {
    kind.kind: kind
    for kind in (StartEvent, StepEvent, EpochEvent, CheckpointEvent, WarningEvent, ResourceEvent, EndEvent)
}


@runtime_checkable
class Listener(Protocol):
    """Takes events as they happen: a file, a screen, a tracking service."""

    def receive(self, event: Event) -> None:
        """Take one event; called between two steps, so be quick, and from more than one thread."""
        ...


def to_record(event: Event, *, time_s: float) -> dict[str, object]:
    """The event as one line of `metrics.jsonl` has it.

    >>> to_record(WarningEvent(step=3, message="disk nearly full"), time_s=0.0)
    {'v': 1, 'event': 'warning', 'time': 0.0, 'step': 3, 'message': 'disk nearly full'}
    """
    fields = {name: None if _not_finite(value) else value for name, value in asdict(event).items()}
    return {"v": VERSION, "event": event.kind, "time": time_s, **fields}


def _not_finite(value: object) -> bool:
    return isinstance(value, float) and not isfinite(value)


def from_record(record: Mapping[str, object]) -> Event | None:
    """The event that a line of `metrics.jsonl` tells of, also an older one; None for a kind that is not known
    here.

    >>> from_record({"v": 1, "event": "warning", "time": 0.0, "step": 3, "message": "disk nearly full"})
    WarningEvent(step=3, message='disk nearly full')
    >>> from_record({"event": "warning", "step": "three"}) is None
    True
    """
    kind = KINDS.get(str(record.get("event")))
    if kind is None:
        return None
    values = {
        field.name: _as_type(record.get(field.name), field.type)
        for field in fields(kind)
        if field.name in record or field.default is MISSING
    }
    return None if _UNFIT in values.values() else cast(type[Any], kind)(**values)


_UNFIT: Final = object()


def _as_type(value: object, expected: object) -> object:
    if expected is float and value is None:
        return nan
    kinds = get_args(expected) or (expected,)
    if float in kinds and type(value) is int:
        return float(value)
    is_fit = type(value) in kinds
    return value if is_fit else _UNFIT


@final
class MetricsLog:
    """Events as JSON lines in a file; a listener. Use it as a context, or close it. Threads may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._lock = Lock()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def receive(self, event: Event) -> None:
        """Append one line."""
        line = json.dumps(to_record(event, time_s=round(time.time(), 3)), allow_nan=False)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def go_back_to(self, step: int) -> None:
        """Forget what was written after `step`: a resumed training makes those steps again."""
        with self._lock:
            self._file.close()
            kept = [record for record in read_metrics(self.path) if _step_of(record) <= step]
            if step == 0:
                kept = []
            write_atomic(self.path, "".join(json.dumps(record) + "\n" for record in kept))
            self._file = self.path.open("a", encoding="utf-8")


def _step_of(record: dict[str, object]) -> int:
    step = record.get("step")
    return step if isinstance(step, int) else 0


def read_metrics(path: Path) -> list[dict[str, object]]:
    """The records of a `metrics.jsonl`, also one that is being written: a last line cut short is left out."""
    with path.open(encoding="utf-8") as file:
        return list(_records(file))


@final
class MetricsFollower:
    """Reads a `metrics.jsonl` as it grows, without holding it open; the file need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place: tuple[int, int] | None = None
        self._position = 0
        self._last_time_s = 0.0

    def news(self) -> list[tuple[Event, float]]:
        """The events that were written since the last call, with their times in seconds since 1970.

        Of a file that was replaced, those that were not read before.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            status = os.fstat(file.fileno())
            place = (status.st_dev, status.st_ino)
            if place != self._place or status.st_size < self._position:
                self._place, self._position = place, 0
            may_be_known = self._position == 0
            file.seek(self._position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # the last line may be in the making
        self._position += len(whole)
        records = list(_records(whole.decode("utf-8", "replace").splitlines()))
        if may_be_known:
            records = [record for record in records if _time_of(record) > self._last_time_s]
        self._last_time_s = max([self._last_time_s, *map(_time_of, records)])
        events = ((from_record(record), _time_of(record)) for record in records)
        return [(event, time_s) for event, time_s in events if event is not None]


def _time_of(record: Mapping[str, object]) -> float:
    """When a record was written, in seconds since 1970."""
    time_s = record.get("time")
    return float(time_s) if isinstance(time_s, int | float) else 0.0


def _records(lines: Iterable[str]) -> Iterable[dict[str, object]]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a line cut short by a kill
        if isinstance(record, dict):
            yield record
