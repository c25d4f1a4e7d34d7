"""The state and the result of a training."""

from dataclasses import dataclass, field
from typing import Final

from wirebert.telemetry.events import EpochEvent

NOT_EVALUATED: Final = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """The result of a finished training, apart from the model, which holds the best weights."""

    best_step: int
    best_valid_loss: float
    history: tuple[EpochEvent, ...]
    """Every evaluation, in order."""

    stopped_early: bool
    seconds: float
    """Time spent on training and evaluation, including the time before an interruption."""

    rows_per_s: float
    """Training flows per second of that time."""

    feeding: str
    """How flows were loaded, in words: by which process, from memory or disk."""

    def to_report(self) -> dict[str, object]:
        """The metrics of the training for the report, by name."""
        return {
            "best_step": self.best_step,
            "evaluations": len(self.history),
            "stopped_early": self.stopped_early,
            "flows_per_second": round(self.rows_per_s),
            "input_pipeline": self.feeding,
        }


@dataclass(slots=True, kw_only=True)
class TrainerState:
    """The progress of a training beyond `TrainState`: plain values, saved with every checkpoint."""

    best_step: int = NOT_EVALUATED
    best_valid_loss: float = 0.0
    num_worse: int = 0
    """Evaluations since the best one."""

    stopped_early: bool = False
    evaluated_step: int = NOT_EVALUATED
    overflows: int = 0
    elapsed_s: float = 0.0
    flows_since: int = 0
    """Flows since the last evaluation, and sums over them."""

    loss_since: float = 0.0
    right_since: float = 0.0
    history: list[dict[str, object]] = field(default_factory=list)
