"""How a training went: the curves of a report, from the records of `metrics.jsonl`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over optimizer steps."""

    name: str
    steps: Float64[np.ndarray, " points"]
    values: Float64[np.ndarray, " points"]

    @staticmethod
    def of(name: str, records: Sequence[Record], field: str) -> "Curve":
        """The finite values of a field of these records; records without one are passed over."""
        points = [(record["step"], record[field]) for record in records if _is_number(record.get(field))]
        steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return Curve(name, steps, values)

    def band(self, max_points: int = 300) -> "Band | None":
        """The curve in at most `max_points` stretches; None if it is no longer than that.

        >>> band = Curve("loss", np.arange(8.0), np.array([1.0, 9, 1, 1, 1, 0, 1, 1])).band(2)
        >>> band.low.tolist(), band.mean.tolist(), band.high.tolist()
        ([1.0, 0.0], [3.0, 0.75], [9.0, 1.0])
        """
        if len(self.steps) <= max_points:
            return None
        starts = np.linspace(0, len(self.steps), max_points, endpoint=False).astype(np.int64)
        sizes = np.diff(np.append(starts, len(self.steps)))
        return Band(
            steps=np.add.reduceat(self.steps, starts) / sizes,
            low=np.minimum.reduceat(self.values, starts),
            mean=np.add.reduceat(self.values, starts) / sizes,
            high=np.maximum.reduceat(self.values, starts),
        )


@dataclass(frozen=True, slots=True)
class Band:
    """A long curve in few stretches, of which each keeps its extremes: no spike is lost."""

    steps: Float64[np.ndarray, " stretches"]
    low: Float64[np.ndarray, " stretches"]
    mean: Float64[np.ndarray, " stretches"]
    high: Float64[np.ndarray, " stretches"]


@dataclass(frozen=True, slots=True)
class History:
    """The curves of one training; empty ones where nothing was recorded."""

    train_loss: Curve
    valid_loss: Curve
    valid_accuracy: Curve
    valid_macro_f1: Curve
    backbone_rate: Curve
    classifier_rate: Curve
    best_step: int | None
    """Step of the model that was kept."""

    @staticmethod
    def of(records: Sequence[Record]) -> "History":
        """Curves from records with `event` "step" (loss, lr_backbone, lr_classifier) and "epoch" (valid_*, is_best)."""
        steps = [record for record in records if record.get("event") == "step"]
        epochs = [record for record in records if record.get("event") == "epoch"]
        best = [record["step"] for record in epochs if record.get("is_best")]
        return History(
            train_loss=Curve.of("training", steps, "loss"),
            valid_loss=Curve.of("validation", epochs, "valid_loss"),
            valid_accuracy=Curve.of("accuracy", epochs, "valid_accuracy"),
            valid_macro_f1=Curve.of("macro F1", epochs, "valid_macro_f1"),
            backbone_rate=Curve.of("backbone", steps, "lr_backbone"),
            classifier_rate=Curve.of("classifier", steps, "lr_classifier"),
            best_step=int(str(best[-1])) if best else None,
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
