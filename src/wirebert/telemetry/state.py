"""The state of a running training, from its events."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import final

from wirebert.telemetry.events import (
    CheckpointEvent,
    EndEvent,
    EpochEvent,
    Event,
    ResourceEvent,
    StartEvent,
    StepEvent,
    WarningEvent,
)
from wirebert.telemetry.sparkline import Sparkline

NUM_EVALUATIONS = 1000
"""Number of latest evaluations in the state."""


@final
@dataclass(slots=True, kw_only=True)
class DashboardState:
    """The state of a training according to its events; it reads no clock."""

    title: str
    """Name of the run."""

    hint: str
    """Help for the reader, in one line."""

    start: StartEvent | None = None
    step: StepEvent | None = None
    resource: ResourceEvent | None = None
    end: EndEvent | None = None
    note: str = ""
    """The last checkpoint or warning."""

    is_warning: bool = False
    warnings: list[str] = field(default_factory=list[str])
    evaluations: deque[EpochEvent] = field(default_factory=lambda: deque[EpochEvent](maxlen=NUM_EVALUATIONS))
    sparklines: dict[str, Sparkline] = field(default_factory=dict[str, Sparkline])
    """Curves by name of the event field."""

    _updated_at_s: float = 0.0

    @staticmethod
    def of(events: Iterable[tuple[Event, float]], *, title: str, hint: str) -> "DashboardState":
        """The state after these events with their times, in seconds since 1970."""
        picture = DashboardState(title=title, hint=hint)
        for event, time_s in events:
            picture.add(event, time_s)
        return picture

    def add(self, event: Event, time_s: float) -> None:
        """Add an event of time `time_s`, in seconds since 1970."""
        match event:
            case StartEvent():
                self.start, self.end = event, None
                self._go_back_to(event.step)
            case StepEvent():
                self.step = event
                self._trace(event, "loss", "lr_backbone", "grad_norm", "rows_per_s")
            case EpochEvent():
                self.evaluations.append(event)
                self._trace(event, "valid_loss", "valid_macro_f1")
            case ResourceEvent():
                self.resource = event
                self._trace(event, "cpu_share", "gpu_share")
                return  # has no training time
            case CheckpointEvent():
                self.note, self.is_warning = f"{event.path} written", False
                return
            case WarningEvent():
                self.warnings.append(event.message)
                self.note, self.is_warning = f"warning: {event.message}", True
                return
            case EndEvent():
                self.end = event
        self._updated_at_s = time_s

    def _go_back_to(self, step: int) -> None:
        """Delete the state after `step`, which a resumed training repeats."""
        for trace in self.sparklines.values():
            trace.go_back_to(step)
        evaluations = [event for event in self.evaluations if 0 < event.step <= step]
        self.evaluations = deque(evaluations, maxlen=NUM_EVALUATIONS)
        if self.step is not None and self.step.step > step:
            self.step = None

    def _trace(self, event: StepEvent | EpochEvent | ResourceEvent, *names: str) -> None:
        for name in names:
            value = getattr(event, name)
            if value is not None and isfinite(value):
                self.sparklines.setdefault(name, Sparkline()).add(event.step, value)

    @property
    def epoch(self) -> EpochEvent | None:
        """The last evaluation."""
        return self.evaluations[-1] if self.evaluations else None

    @property
    def best(self) -> EpochEvent | None:
        """The best evaluation, if it is among the latest ones."""
        return next((event for event in reversed(self.evaluations) if event.is_best), None)

    def elapsed_s(self, now_s: float) -> float:
        """Seconds of training until now."""
        if self.end is not None:
            return self.end.elapsed_s
        elapsed_s = max(
            (event.elapsed_s for event in (self.step, self.epoch) if event is not None), default=0.0
        )
        return elapsed_s + self._since_update_s(now_s)

    def left_s(self, now_s: float) -> float | None:
        """Estimated seconds to the last step at the mean speed so far; None if unknown."""
        if self.start is None or self.step is None or self.end is not None:
            return None
        pace_s = self.step.elapsed_s / max(1, self.step.step)
        return max(0.0, pace_s * (self.start.num_steps - self.step.step) - self._since_update_s(now_s))

    def _since_update_s(self, now_s: float) -> float:
        return max(0.0, now_s - self._updated_at_s) if self.start is not None else 0.0
