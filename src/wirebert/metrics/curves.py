"""What every threshold of the alert score finds, and its cost in false positives.

Where the attack scores of each class lie.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64


@dataclass(frozen=True, slots=True)
class OperatingCurve:
    """Alerts at every threshold worth setting, from the highest (no alert at all) to the lowest.

    At `thresholds[i]` every flow that scores at least that much is an alert. Equal scores raise the alert
    together.

    >>> curve = OperatingCurve.of(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    >>> curve.thresholds.tolist(), curve.num_true_positives.tolist(), curve.num_false_positives.tolist()
    ([inf, 0.9, 0.8, 0.1], [0, 1, 2, 2], [0, 0, 1, 2])
    >>> curve.tpr_at_fpr(0.1), curve.tpr_at_fpr(0.5), curve.auroc
    (0.5, 1.0, 0.875)
    """

    thresholds: Float64[np.ndarray, " points"]
    num_true_positives: Int64[np.ndarray, " points"]
    """Attacks among the alerts."""
    num_false_positives: Int64[np.ndarray, " points"]
    """Benign flows among the alerts."""

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
        """Attacks in the file."""
        return int(self.num_true_positives[-1])

    @property
    def num_benign(self) -> int:
        """Benign flows in the file."""
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
        """Mean precision over the attacks, in order of score; None without attacks."""
        if not self.num_attacks:
            return None
        precision = self.num_true_positives[1:] / (self.num_true_positives[1:] + self.num_false_positives[1:])
        return float(np.sum(np.diff(self.num_true_positives) * precision)) / self.num_attacks

    def tpr_at_fpr(self, false_positive_rate: float) -> float | None:
        """Share of attacks detected by the lowest threshold that keeps the false positive rate at or below
        this one.

        None unless there are both attacks and benign flows.
        """
        if not self.num_attacks or not self.num_benign:
            return None
        return float(self.num_true_positives[self.index_at_fpr(false_positive_rate)]) / self.num_attacks

    def index_at_fpr(self, false_positive_rate: float) -> int:
        """Position of the lowest threshold that keeps the false positive rate at or below this one."""
        allowed = self.num_false_positives / max(self.num_benign, 1) <= false_positive_rate
        return int(np.flatnonzero(allowed)[-1])

    def thinned(self, num_stretches: int) -> "ScoreCurve":
        """The curve in few points, for drawing: each is a point of the whole curve, and its extremes are
        kept.

        In every stretch of equal detection the best and the worst precision stay, and the points where the
        false positive rate passes the next of `num_stretches` steps between one flow and all, each a constant
        factor above the one before.
        """
        found, false = self.num_true_positives[1:], self.num_false_positives[1:]
        if not len(found):
            return ScoreCurve((), (), (), None, None)
        precision = found / (found + false)
        stretch = (found * num_stretches / max(self.num_attacks, 1)).astype(np.int64)
        by_precision = np.lexsort((precision, stretch))
        starts = np.flatnonzero(np.diff(stretch[by_precision], prepend=-1))
        ends = np.append(starts[1:], len(stretch)) - 1
        levels = np.geomspace(1, max(self.num_benign, 1), num_stretches)
        steps = np.searchsorted(false, levels, side="right") - 1
        corners = np.array([0, len(found) - 1])
        kept = np.unique(np.concatenate([corners, by_precision[starts], by_precision[ends], steps]))
        kept = kept[kept >= 0]
        return ScoreCurve(
            tuple(self.thresholds[1:][kept].tolist()),
            tuple(found[kept].tolist()),
            tuple(false[kept].tolist()),
            self.auroc,
            self.average_precision,
        )


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """Some points of an `OperatingCurve`, from the highest threshold to the lowest; the areas are of the
    whole curve."""

    thresholds: tuple[float, ...]
    num_true_positives: tuple[int, ...]
    """Flows of the class among the alerts; the last is all of them."""
    num_false_positives: tuple[int, ...]
    """Other flows among the alerts; the last is all of them."""
    auroc: float | None
    average_precision: float | None


@dataclass(frozen=True, slots=True)
class ScoreCurves:
    """What precision-recall and ROC curves of a split are drawn from."""

    classes: Mapping[str, ScoreCurve]
    """Each class that the model knows against the rest, by the class's probability."""
    attack: ScoreCurve | None
    """Attack vs benign, by the alert score; None where no class means benign."""


CLASS_POINTS, ATTACK_POINTS = 24, 80
"""Stretches of a class's curve and of the one that operators look at."""


def score_curves(
    true_ids: Int64[np.ndarray, " flows"],
    probabilities: Float[np.ndarray, "flows classes"],
    classes: tuple[str, ...],
    attack: OperatingCurve | None,
) -> ScoreCurves:
    """Curves of every class; classes without a flow have points, but no areas."""
    of_class = {
        name: OperatingCurve.of(probabilities[:, at].astype(np.float64), true_ids == at).thinned(CLASS_POINTS)
        for at, name in enumerate(classes)
    }
    return ScoreCurves(of_class, None if attack is None else attack.thinned(ATTACK_POINTS))


HISTOGRAM_BINS = 40


@dataclass(frozen=True, slots=True)
class ScoreHistogram:
    """Flows of each true class by attack score, in bins of equal width from 0 to 1; a score of 1 is in the
    last."""

    num_bins: int
    benign: str
    """The class that means no attack."""
    counts: Mapping[str, tuple[int, ...]]
    """True class -> flows in each bin; classes that the file lacks are left out."""


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
    place = np.minimum((scores * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
    flat = np.bincount(true_ids * HISTOGRAM_BINS + place, minlength=len(labels) * HISTOGRAM_BINS)
    counts = dict(zip(labels, flat.reshape(len(labels), HISTOGRAM_BINS).tolist(), strict=True))
    return ScoreHistogram(
        HISTOGRAM_BINS, benign, {name: tuple(row) for name, row in counts.items() if any(row)}
    )
