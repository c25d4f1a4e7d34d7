"""What every threshold of the attack score finds, and what it costs in false alarms."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64


@dataclass(frozen=True, slots=True)
class OperatingCurve:
    """Alarms at every threshold worth setting, from the strictest (no alarm at all) to the laxest.

    At `thresholds[i]` every flow that scores at least that much is an alarm. Equal scores raise the alarm together.

    >>> curve = OperatingCurve.of(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    >>> curve.thresholds.tolist(), curve.num_found.tolist(), curve.num_false.tolist()
    ([inf, 0.9, 0.8, 0.1], [0, 1, 2, 2], [0, 0, 1, 2])
    >>> curve.detection_at(0.1), curve.detection_at(0.5), curve.auroc
    (0.5, 1.0, 0.875)
    """

    thresholds: Float64[np.ndarray, " points"]
    num_found: Int64[np.ndarray, " points"]
    """Attacks among the alarms."""
    num_false: Int64[np.ndarray, " points"]
    """Benign flows among the alarms."""

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
        return int(self.num_found[-1])

    @property
    def num_benign(self) -> int:
        """Benign flows in the file."""
        return int(self.num_false[-1])

    @property
    def auroc(self) -> float | None:
        """Area under the ROC curve; None unless there are both attacks and benign flows."""
        if not self.num_attacks or not self.num_benign:
            return None
        area = np.trapezoid(self.num_found.astype(np.float64), self.num_false.astype(np.float64))
        return float(area) / (self.num_attacks * self.num_benign)

    @property
    def average_precision(self) -> float | None:
        """Mean precision over the attacks, in order of score; None without attacks."""
        if not self.num_attacks:
            return None
        precision = self.num_found[1:] / (self.num_found[1:] + self.num_false[1:])
        return float(np.sum(np.diff(self.num_found) * precision)) / self.num_attacks

    def detection_at(self, false_positive_rate: float) -> float | None:
        """Share of attacks found by the laxest threshold that keeps the false positive rate at or below this one.

        None unless there are both attacks and benign flows.
        """
        if not self.num_attacks or not self.num_benign:
            return None
        allowed = self.num_false / self.num_benign <= false_positive_rate
        return float(self.num_found[allowed].max()) / self.num_attacks
