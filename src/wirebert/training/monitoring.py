"""What a training says while it runs: events, and the file they are kept in.

`metrics.jsonl` holds one JSON object a line. Every line has `v` (this schema's version), `event` (its kind), `time`
(seconds since 1970) and `step` (optimizer steps done); the other fields are those of the kind's dataclass below. A number
that is not finite is null. The file may be read while it is written: lines come whole, one flush each.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import ClassVar, Final, Protocol, TextIO, final, runtime_checkable

VERSION: Final = 1


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
    """A checkpoint is on disk."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WarningEvent:
    """Something the user should know, in one sentence."""

    kind: ClassVar[str] = "warning"
    step: int
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EndEvent:
    """Training is done."""

    kind: ClassVar[str] = "end"
    step: int
    best_step: int
    best_valid_loss: float
    stopped_early: bool
    elapsed_s: float


Event = StartEvent | StepEvent | EpochEvent | CheckpointEvent | WarningEvent | EndEvent


@runtime_checkable
class Listener(Protocol):
    """Takes events as they happen: a file, a screen, a tracking service."""

    def receive(self, event: Event) -> None:
        """Take one event; called between two steps, so be quick."""
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


@final
class MetricsLog:
    """Events as JSON lines in a file; a listener. Use it as a context, or close it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: TextIO = path.open("a", encoding="utf-8")

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def receive(self, event: Event) -> None:
        """Append one line."""
        line = json.dumps(to_record(event, time_s=round(time.time(), 3)), allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def go_back_to(self, step: int) -> None:
        """Forget what was written after `step`: a resumed training makes those steps again."""
        self._file.close()
        kept = [record for record in read_metrics(self.path) if _step_of(record) <= step]
        if step == 0:
            kept = []
        aside = self.path.with_name(self.path.name + ".aside")
        aside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        os.replace(aside, self.path)  # noqa: PTH105 - says that the old file goes
        self._file = self.path.open("a", encoding="utf-8")


def _step_of(record: dict[str, object]) -> int:
    step = record.get("step")
    return step if isinstance(step, int) else 0


def read_metrics(path: Path) -> list[dict[str, object]]:
    """The records of a `metrics.jsonl`, also one that is being written: a last line cut short is left out."""
    with path.open(encoding="utf-8") as file:
        return list(_records(file))


def _records(lines: Iterable[str]) -> Iterable[dict[str, object]]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a line cut short by a kill
        if isinstance(record, dict):
            yield record
