"""Training progress in plain lines, for logs and outputs that are not a terminal."""

from datetime import timedelta
from typing import Final, final

from rich.console import Console

from wirebert.plurals import counted
from wirebert.telemetry.events import EndEvent, EpochEvent, Event, StartEvent, StepEvent, WarningEvent

SECONDS_BETWEEN_LINES: Final = 10.0


def step_line(event: StepEvent) -> str:
    """Loss, both learning rates and speed, in one line."""
    rates = f"lr {event.lr_backbone:.1e} / {event.lr_classifier:.1e}"
    return f"loss {event.loss:.4f}  {rates}  {event.rows_per_s:,.0f} rows/s"


def epoch_line(event: EpochEvent) -> str:
    """One evaluation in one line.

    >>> rates = dict(lr_backbone=0.0, lr_classifier=0.0, rows_per_s=1.0, elapsed_s=1.0)
    >>> losses = dict(train_loss=0.5, train_accuracy=0.9, valid_loss=0.4)
    >>> valid = dict(valid_accuracy=0.91, valid_macro_f1=0.8)
    >>> print(epoch_line(EpochEvent(step=9, epoch=2.0, is_best=True, **losses, **valid, **rates)))
    epoch 2: train loss 0.5000  valid loss 0.4000  accuracy 0.9100  macro-F1 0.8000  (best so far)
    """
    best = "  (best so far)" if event.is_best else ""
    return (
        f"epoch {event.epoch:.4g}: train loss {event.train_loss:.4f}  valid loss {event.valid_loss:.4f}  "
        f"accuracy {event.valid_accuracy:.4f}  macro-F1 {event.valid_macro_f1:.4f}{best}"
    )


def end_line(event: EndEvent) -> str:
    """Steps, duration and best validation loss of a finished training."""
    early = ", stopped early" if event.stopped_early else ""
    took = timedelta(seconds=round(event.elapsed_s))
    return (
        f"trained {event.step:,} steps in {took}{early}; best validation loss {event.best_valid_loss:.4f} "
        f"at step {event.best_step:,}"
    )


def start_line(event: StartEvent) -> str:
    """Size of data and model, precision, device and data loading."""
    ranks = f" in {event.num_ranks} processes" if event.num_ranks > 1 else ""
    verb = f"resuming after step {event.step:,}" if event.step else "training"
    epochs = counted(event.num_epochs, "epoch")
    feeding = f"; data loading: {event.feeding}" if event.feeding else ""
    return (
        f"{verb}: {event.num_train:,} flows, {epochs}, {event.num_steps:,} steps of {event.batch_size}; "
        f"{event.num_parameters:,} parameters, {event.precision} on {event.device}{ranks}{feeding}"
    )


@final
class PlainLines:
    """A listener that prints a line for every evaluation, and every ten seconds one for the steps."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._num_steps = 0
        self._line_at_s = 0.0

    def __enter__(self) -> "PlainLines":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""

    def receive(self, event: Event) -> None:
        """Print a line for the event, unless it comes too soon."""
        match event:
            case StartEvent():
                self._num_steps = event.num_steps
                self._print(start_line(event))
            case StepEvent() if event.elapsed_s - self._line_at_s >= SECONDS_BETWEEN_LINES:
                self._line_at_s = event.elapsed_s
                left = time_left(event, self._num_steps)
                self._print(f"step {event.step:,}/{self._num_steps:,}  {step_line(event)}  {left} left")
            case EpochEvent():
                self._print(epoch_line(event))
            case WarningEvent():
                self._print(f"warning: {event.message}")
            case EndEvent():
                self._print(end_line(event))
            case _:
                pass

    def receive_at(self, event: Event, time_s: float) -> None:
        """The same for an earlier event."""
        del time_s  # lines show the duration of training, not the time of the event
        self.receive(event)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def time_left(event: StepEvent, num_steps: int) -> timedelta:
    """Estimated time to the last step at the mean speed so far."""
    return timedelta(seconds=round(event.elapsed_s / max(1, event.step) * (num_steps - event.step)))
