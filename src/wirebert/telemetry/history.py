"""Training curves of a report, from the records of `metrics.jsonl`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wirebert.shapes import Float64

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over optimizer steps, or over time."""

    name: str
    at: Float64[np.ndarray, " points"]
    """Optimizer steps, or minutes since the training started."""
    values: Float64[np.ndarray, " points"]

    @staticmethod
    def of(name: str, records: Sequence[Record], key: str) -> "Curve":
        """The finite values of a field of these records over steps; records without one are ignored."""
        return Curve.between(name, records, "step", key)

    @staticmethod
    def between(name: str, records: Sequence[Record], at: str, key: str, scale: float = 1.0) -> "Curve":
        """The finite values of one field over those of another, times `scale`."""
        points = [(r[at], r[key]) for r in records if _is_number(r.get(at)) and _is_number(r.get(key))]
        positions, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return Curve(name, positions, values * scale)

    def band(self, max_points: int = 300) -> "Band | None":
        """The curve in at most `max_points` segments; None if it has no more points.

        >>> band = Curve("loss", np.arange(8.0), np.array([1.0, 9, 1, 1, 1, 0, 1, 1])).band(2)
        >>> band.low.tolist(), band.mean.tolist(), band.high.tolist()
        ([1.0, 0.0], [3.0, 0.75], [9.0, 1.0])
        """
        if len(self.at) <= max_points:
            return None
        starts = np.linspace(0, len(self.at), max_points, endpoint=False).astype(np.int64)
        sizes = np.diff(np.append(starts, len(self.at)))
        return Band(
            at=np.add.reduceat(self.at, starts) / sizes,
            low=np.minimum.reduceat(self.values, starts),
            mean=np.add.reduceat(self.values, starts) / sizes,
            high=np.maximum.reduceat(self.values, starts),
        )


@dataclass(frozen=True, slots=True)
class Band:
    """A long curve in few segments, each with its extremes, so that no spike is lost."""

    at: Float64[np.ndarray, " segments"]
    low: Float64[np.ndarray, " segments"]
    mean: Float64[np.ndarray, " segments"]
    high: Float64[np.ndarray, " segments"]


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The curves of one training run; empty where nothing was recorded."""

    train_loss: Curve
    valid_loss: Curve
    train_accuracy: Curve
    valid_accuracy: Curve
    valid_macro_f1: Curve
    backbone_rate: Curve
    classifier_rate: Curve
    grad_norm: Curve
    rows_per_s: Curve
    tokens_per_s: Curve
    best_step: int | None = None
    """Step of the best model."""
    resources: tuple[Record, ...] = field(default_factory=tuple)
    """Resource samples, with `minutes` since the first one."""

    @staticmethod
    def of(records: Sequence[Record]) -> "History":
        """Curves from records of `metrics.jsonl` with `event` "step", "epoch" (an evaluation) or
        "resource".
        """
        steps = [record for record in records if record.get("event") == "step"]
        epochs = [record for record in records if record.get("event") == "epoch"]
        best = [record["step"] for record in epochs if record.get("is_best")]
        return History(
            train_loss=Curve.of("training", steps, "loss"),
            valid_loss=Curve.of("validation", epochs, "valid_loss"),
            train_accuracy=Curve.of("training accuracy", epochs, "train_accuracy"),
            valid_accuracy=Curve.of("validation accuracy", epochs, "valid_accuracy"),
            valid_macro_f1=Curve.of("validation macro F1", epochs, "valid_macro_f1"),
            backbone_rate=Curve.of("backbone", steps, "lr_backbone"),
            classifier_rate=Curve.of("classifier", steps, "lr_classifier"),
            grad_norm=Curve.of("gradient norm", steps, "grad_norm"),
            rows_per_s=Curve.of("flows", steps, "rows_per_s"),
            tokens_per_s=Curve.of("tokens", steps, "tokens_per_s"),
            best_step=int(str(best[-1])) if best else None,
            resources=_over_time([record for record in records if record.get("event") == "resource"]),
        )


def _over_time(samples: Sequence[Record]) -> tuple[Record, ...]:
    times = [float(str(sample["time"])) for sample in samples if _is_number(sample.get("time"))]
    timed = [sample for sample in samples if _is_number(sample.get("time"))]
    return tuple(
        {**sample, "minutes": (time - times[0]) / 60} for sample, time in zip(timed, times, strict=True)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
