"""ROC and precision-recall curves of the alert score, and the histogram of attack scores by class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wirebert.shapes import Bool, Float, Float64, Int64


@dataclass(frozen=True, slots=True)
class OperatingCurve:
    """Alerts at every distinct threshold, from the highest (no alert) to the lowest.

    At `thresholds[i]` every flow with at least this score raises an alert, so equal scores do so together.

    >>> curve = OperatingCurve.of(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    >>> curve.thresholds.tolist(), curve.num_true_positives.tolist(), curve.num_false_positives.tolist()
    ([inf, 0.9, 0.8, 0.1], [0, 1, 2, 2], [0, 0, 1, 2])
    >>> curve.tpr_at_fpr(0.1), curve.tpr_at_fpr(0.5), curve.auroc
    (0.5, 1.0, 0.875)
    """

    thresholds: Float64[np.ndarray, " points"]
    num_true_positives: Int64[np.ndarray, " points"]
    """Number of attacks among the alerts."""
    num_false_positives: Int64[np.ndarray, " points"]
    """Number of benign flows among the alerts."""

    @staticmethod
    def of(scores: Float64[np.ndarray, " flows"], is_attack: Bool[np.ndarray, " flows"]) -> "OperatingCurve":
        """The curve of these scores."""
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        last_of_ties = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
        num_found = np.cumsum(is_attack[order], dtype=np.int64)[last_of_ties]
        num_false = last_of_ties.astype(np.int64) + 1 - num_found
        return OperatingCurve(
            np.concatenate([[np.inf], ranked[last_of_ties]]),
            np.concatenate([np.zeros(1, dtype=np.int64), num_found]),
            np.concatenate([np.zeros(1, dtype=np.int64), num_false]),
        )

    @property
    def num_attacks(self) -> int:
        """Number of attacks."""
        return int(self.num_true_positives[-1])

    @property
    def num_benign(self) -> int:
        """Number of benign flows."""
        return int(self.num_false_positives[-1])

    @property
    def auroc(self) -> float | None:
        """Area under the ROC curve; None unless there are both attacks and benign flows."""
        if not self.num_attacks or not self.num_benign:
            return None
        area = np.trapezoid(
            self.num_true_positives.astype(np.float64), self.num_false_positives.astype(np.float64)
        )
        return float(area) / (self.num_attacks * self.num_benign)

    @property
    def average_precision(self) -> float | None:
        """Average precision: mean precision over the attacks by falling score; None without attacks."""
        if not self.num_attacks:
            return None
        precision = self.num_true_positives[1:] / (self.num_true_positives[1:] + self.num_false_positives[1:])
        return float(np.sum(np.diff(self.num_true_positives) * precision)) / self.num_attacks

    def tpr_at_fpr(self, false_positive_rate: float) -> float | None:
        """Detection rate at the lowest threshold with at most this false positive rate.

        None unless there are both attacks and benign flows.
        """
        if not self.num_attacks or not self.num_benign:
            return None
        return float(self.num_true_positives[self.index_at_fpr(false_positive_rate)]) / self.num_attacks

    def index_at_fpr(self, false_positive_rate: float) -> int:
        """Position of the lowest threshold with at most this false positive rate."""
        allowed = self.num_false_positives / max(self.num_benign, 1) <= false_positive_rate
        return int(np.flatnonzero(allowed)[-1])

    def thinned(self, num_stretches: int) -> "ScoreCurve":
        """A subset of the curve's points for drawing, with its extremes.

        In each interval of the detection rate the points of highest and lowest precision are kept, and the
        points where the false positive rate passes the next of `num_stretches` geometric steps from one flow
        to all.
        """
        detected, false = self.num_true_positives[1:], self.num_false_positives[1:]
        if not len(detected):
            return ScoreCurve((), (), (), None, None)
        precision = detected / (detected + false)
        stretch = (detected * num_stretches / max(self.num_attacks, 1)).astype(np.int64)
        by_precision = np.lexsort((precision, stretch))
        starts = np.flatnonzero(np.diff(stretch[by_precision], prepend=-1))
        ends = np.append(starts[1:], len(stretch)) - 1
        levels = np.geomspace(1, max(self.num_benign, 1), num_stretches)
        steps = np.searchsorted(false, levels, side="right") - 1
        corners = np.array([0, len(detected) - 1])
        selected = np.unique(np.concatenate([corners, by_precision[starts], by_precision[ends], steps]))
        selected = selected[selected >= 0]
        return ScoreCurve(
            tuple(self.thresholds[1:][selected].tolist()),
            tuple(detected[selected].tolist()),
            tuple(false[selected].tolist()),
            self.auroc,
            self.average_precision,
        )


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """Points of an `OperatingCurve`, from the highest threshold down, and the areas of the whole curve."""

    thresholds: tuple[float, ...]
    num_true_positives: tuple[int, ...]
    """Number of flows of the class among the alerts; the last counts all of them."""
    num_false_positives: tuple[int, ...]
    """Number of other flows among the alerts; the last counts all of them."""
    auroc: float | None
    average_precision: float | None


@dataclass(frozen=True, slots=True)
class ScoreCurves:
    """The data of the precision-recall and ROC curves of a split."""

    classes: Mapping[str, ScoreCurve]
    """Each class that the model knows against the rest, by the class's probability."""
    attack: ScoreCurve | None
    """Attack vs benign, by the alert score; None where no class means benign."""


CLASS_POINTS, ATTACK_POINTS = 24, 80
"""Intervals of a class's curve, and of the attack curve."""


def score_curves(
    true_ids: Int64[np.ndarray, " flows"],
    probabilities: Float[np.ndarray, "flows classes"],
    classes: tuple[str, ...],
    attack: OperatingCurve | None,
) -> ScoreCurves:
    """Curves of every class; classes without flows have points but no areas."""
    of_class = {
        name: OperatingCurve.of(probabilities[:, at].astype(np.float64), true_ids == at).thinned(CLASS_POINTS)
        for at, name in enumerate(classes)
    }
    return ScoreCurves(of_class, None if attack is None else attack.thinned(ATTACK_POINTS))


HISTOGRAM_BINS = 40


@dataclass(frozen=True, slots=True)
class ScoreHistogram:
    """Flows of each true class by attack score, in equal bins from 0 to 1; the last bin includes 1."""

    num_bins: int
    benign: str
    """The benign class."""
    counts: Mapping[str, tuple[int, ...]]
    """True class -> number of flows in each bin; classes that the file lacks are omitted."""


def score_histogram(
    scores: Float64[np.ndarray, " flows"],
    true_ids: Int64[np.ndarray, " flows"],
    labels: tuple[str, ...],
    benign: str,
) -> ScoreHistogram:
    """The histogram of these scores.

    >>> histogram = score_histogram(np.array([0.0, 1.0, 1.0]), np.array([0, 1, 1]), ("ok", "scan"), "ok")
    >>> histogram.counts["scan"][-1]
    2
    """
    bins = np.minimum((scores * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
    flat = np.bincount(true_ids * HISTOGRAM_BINS + bins, minlength=len(labels) * HISTOGRAM_BINS)
    counts = dict(zip(labels, flat.reshape(len(labels), HISTOGRAM_BINS).tolist(), strict=True))
    return ScoreHistogram(
        HISTOGRAM_BINS, benign, {name: tuple(row) for name, row in counts.items() if any(row)}
    )
