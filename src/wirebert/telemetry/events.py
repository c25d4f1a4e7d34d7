"""The events of a training run, and the file that records them.

`metrics.jsonl` holds one JSON object per line. Every line has `v` (version of this schema), `event` (its
kind), `time` (seconds since 1970) and `step` (optimizer steps done); the other fields are those of the
dataclass of its kind. A number that is not finite or unknown is null. The file can be read while it is
written: each line is flushed as a whole. A resumed training replaces the file by one without the steps that
it repeats. Kinds and fields may be added without a new version, so readers ignore unknown ones.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from io import BufferedReader
from math import isfinite, nan
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final, Protocol, TextIO, cast, final, get_args, runtime_checkable

from wirebert.errors import RunError
from wirebert.files import decode_json, open_plain_file, write_atomic

VERSION: Final = 2
MAX_LINE_BYTES: Final = 1 << 20
MAX_READ_BYTES: Final = 16 << 20
"""Read at one look; what is left is read at the next one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartEvent:
    """Training starts or resumes."""

    kind: ClassVar[str] = "start"
    step: int
    """Steps already done: above 0 in a resumed training."""

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
    """Processes of data-parallel training; `device` is that of the first."""

    feeding: str = ""
    """How training flows are loaded, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEvent:
    """Summary of the steps since the last step event."""

    kind: ClassVar[str] = "step"
    step: int
    epoch: float
    """Passes over the training flows so far: 1.5 is halfway through the second."""

    loss: float
    """Mean over the flows."""

    accuracy: float
    """Training accuracy, with dropout and corruption on."""

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
    """Maximum padded tokens of one forward pass; 0: the whole step."""

    rows_per_s: float
    tokens_per_s: float
    """Without padding."""

    elapsed_s: float
    """Seconds of training, including those before an interruption."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochEvent:
    """An evaluation on the validation flows: one after each epoch, or every training.evaluate_every steps."""

    kind: ClassVar[str] = "epoch"
    step: int
    epoch: float
    train_loss: float
    """Mean over the flows since the previous evaluation."""

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
    """A checkpoint was written; training continued meanwhile."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    path: str
    """Name of its folder, which contains the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WarningEvent:
    """A warning for the user, in one sentence."""

    kind: ClassVar[str] = "warning"
    step: int
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceEvent:
    """Resource usage, once a second; null where the machine does not report it."""

    kind: ClassVar[str] = "resource"
    step: int
    """Step of the previous event; later steps are not counted."""

    cpu_share: float | None
    """CPU utilisation by all processes since the previous sample, as a fraction of all cores, in [0, 1]."""

    process_cpu_share: float | None
    """CPU utilisation by this process."""

    resident_bytes: int | None
    """Resident memory of this process."""

    memory_free_bytes: int | None
    """Available memory of the machine."""

    disk_free_bytes: int | None
    """Free space of the disk of the run folder."""

    gpu_share: float | None
    """Utilisation of the training GPU, in [0, 1]; the next fields are of this GPU, too."""

    gpu_memory_used_bytes: int | None
    """Used by all processes."""

    gpu_memory_total_bytes: int | None
    gpu_memory_allocated_bytes: int | None
    """Allocated by the tensors of this process."""

    gpu_power_w: float | None
    gpu_temperature_c: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EndEvent:
    """Training has ended."""

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
    """Receives events as they happen: a file, a screen, a tracking service."""

    def receive(self, event: Event) -> None:
        """Handle one event; called between two steps and from several threads, so it must be fast and
        thread-safe.
        """
        ...


def to_record(event: Event, *, time_s: float) -> dict[str, object]:
    """The event as a record of `metrics.jsonl`.

    >>> to_record(WarningEvent(step=3, message="disk nearly full"), time_s=0.0)
    {'v': 2, 'event': 'warning', 'time': 0.0, 'step': 3, 'message': 'disk nearly full'}
    """
    fields = {name: None if _not_finite(value) else value for name, value in asdict(event).items()}
    return {"v": VERSION, "event": event.kind, "time": time_s, **fields}


def _not_finite(value: object) -> bool:
    return isinstance(value, float) and not isfinite(value)


def from_record(record: Mapping[str, object]) -> Event | None:
    """The event of a record of `metrics.jsonl`, also of an older version; None for an unknown kind.

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
    return None if _INVALID in values.values() else cast(type[Any], kind)(**values)


_INVALID: Final = object()
_MOST: Final = 1 << 53


def _as_type(value: object, expected: object) -> object:
    if expected is float and value is None:
        return nan
    kinds = get_args(expected) or (expected,)
    if type(value) is int and abs(value) > _MOST:
        return _INVALID
    if float in kinds and type(value) is int:
        return float(value)
    return value if type(value) in kinds else _INVALID


@final
class MetricsLog:
    """A thread-safe listener that appends events to a file as JSON lines. Use it as a context, or close
    it.
    """

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
        """Delete the records after `step`, which a resumed training repeats."""
        with self._lock:
            self._file.close()
            records = [record for record in read_metrics(self.path) if _step_of(record) <= step]
            if step == 0:
                records = []
            write_atomic(self.path, "".join(json.dumps(record) + "\n" for record in records))
            self._file = self.path.open("a", encoding="utf-8")


def _step_of(record: dict[str, object]) -> int:
    step = record.get("step")
    return step if isinstance(step, int) else 0


def read_metrics(path: Path) -> list[dict[str, object]]:
    """The records of a `metrics.jsonl`, also while it is written: an incomplete last line is ignored."""
    with _opened(path) as file:
        return list(_records(iter(lambda: file.readline(MAX_LINE_BYTES), b"")))


def _opened(path: Path) -> BufferedReader:
    try:
        return open_plain_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(
            f"{path}: expected the metrics of a run, could not read them ({error.strerror}); check the folder"
        ) from error


@final
class MetricsFollower:
    """Reads a growing `metrics.jsonl` without keeping it open; the file may not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: tuple[int, int] | None = None
        self._position = 0
        self._last_time_s = 0.0

    def new_events(self) -> list[tuple[Event, float]]:
        """The events written since the last call, with their times in seconds since 1970.

        From a replaced file, only events that were not read before.
        """
        try:
            file = _opened(self._path)
        except FileNotFoundError:
            return []
        with file:
            status = os.fstat(file.fileno())
            inode = (status.st_dev, status.st_ino)
            if inode != self._inode or status.st_size < self._position:
                self._inode, self._position = inode, 0
            may_repeat = self._position == 0
            file.seek(self._position)
            text = file.read(MAX_READ_BYTES)
        whole = text[: text.rfind(b"\n") + 1]  # the last line may be incomplete
        # A line that is no event is passed over.
        self._position += len(whole) or (len(text) if len(text) == MAX_READ_BYTES else 0)
        records = list(_records(whole.splitlines()))
        if may_repeat:
            records = [record for record in records if _time_of(record) > self._last_time_s]
        self._last_time_s = max([self._last_time_s, *map(_time_of, records)])
        events = ((from_record(record), _time_of(record)) for record in records)
        return [(event, time_s) for event, time_s in events if event is not None]


def _time_of(record: Mapping[str, object]) -> float:
    """Time of a record, in seconds since 1970."""
    time_s = record.get("time")
    return float(time_s) if isinstance(time_s, int | float) and abs(time_s) < _MOST else 0.0


def _records(lines: Iterable[bytes]) -> Iterable[dict[str, object]]:
    for line in lines:
        try:
            record = decode_json(line.decode("utf-8", "replace"))
        except ValueError:
            continue  # an incomplete line of a killed process
        if isinstance(record, dict):
            yield cast(dict[str, object], record)
