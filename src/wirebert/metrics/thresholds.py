"""Alert thresholds: fitted on benign flows for a target FPR, and measured on other flows.

A threshold keeps its false positive rate only on traffic like that on which it was fitted. So every rate has
an interval from its number of flows, and `threshold_metrics` measures the rate on other flows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nextafter, sqrt

import numpy as np

from wirebert.metrics.intervals import Interval
from wirebert.shapes import Bool, Float, Float64

FALSE_POSITIVE_RATES = (0.01, 0.001, 0.0001)
"""Target FPRs of every report: with a million flows a day an operator needs the last one or less."""

PREVALENCES = (0.01, 0.001, 0.0001)
"""Attack prevalences for which precision is restated: real traffic has far fewer attacks than data sets."""

MIN_EXPECTED_FALSE_POSITIVES = 16
"""A threshold for rate r is trusted from n distinct benign flows on if n times r is at least this: then the
rate on other flows of the same traffic is within about a half of the target."""

_NORMAL_QUANTILE = 1.959963984540054
"""Normal quantile of 95 % intervals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """A flow that scores at least `threshold` raises an alert."""

    target_fpr: float
    """Target false positive rate, in (0, 1)."""
    threshold: float
    num_benign: int
    """Number of benign flows on which it was fitted."""
    num_false_positives: int
    """Number of these that raise an alert."""
    fpr_interval: Interval
    """95 % interval of the false positive rate on other benign flows of the same traffic."""
    num_distinct: int
    """Number of different ones among the benign flows: a repeated flow tells nothing new."""
    is_trusted: bool
    """Whether there were enough of them, see `MIN_EXPECTED_FALSE_POSITIVES`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdMetrics:
    """Metrics of a threshold on the flows of one split."""

    target_fpr: float
    """Target false positive rate of the threshold, fitted on other flows."""
    threshold: float
    fpr: float | None
    """Measured false positive rate; None without benign flows."""
    fpr_interval: Interval | None
    """95 % interval of the measured rate, for independent flows."""
    tpr: float | None
    """Detection rate: fraction of attacks that raise an alert; None without attacks."""
    precision: float | None
    """Fraction of attacks among the alerts of this file; None without alerts."""
    precision_at_prevalence: Mapping[str, float | None]
    """Attack prevalence -> precision; None if there was no false alert (the rate is too low to measure)."""
    alerts_per_10000: float
    """Alerts per 10,000 flows of this file, whose prevalence of attacks may differ from real traffic."""

    @property
    def is_off_target(self) -> bool:
        """Whether the target is outside the interval of the measured rate."""
        return (
            self.fpr_interval is not None
            and not self.fpr_interval[0] <= self.target_fpr <= self.fpr_interval[1]
        )


def attack_scores(
    probabilities: Float[np.ndarray, "flows classes"], benign_id: int
) -> Float64[np.ndarray, " flows"]:
    """1 - P(benign), in double precision: near 1, single precision would tie flows that must be ranked."""
    return 1.0 - probabilities[:, benign_id].astype(np.float64)


def laxest_threshold(
    scores: Float64[np.ndarray, " flows"], is_counted: Bool[np.ndarray, " flows"], most: int
) -> float:
    """The lowest threshold that at most `most` of the counted flows reach; at least one flow is counted.

    It is half-way between two observed scores, so that rounding on another processor moves no flow across.
    Equal scores are on the same side: if they would exceed the number, all of them are below the threshold.

    >>> scores, everyone = np.array([0.9, 0.5, 0.5, 0.1]), np.ones(4, bool)
    >>> [laxest_threshold(scores, everyone, most) for most in (0, 1, 2, 3, 4)]
    [0.9000000000000001, 0.7, 0.7, 0.3, 0.1]
    """
    counted = np.sort(scores[is_counted])[::-1]
    if most >= len(counted):
        return float(scores.min())
    too_low = float(counted[most])
    above = scores[scores > too_low]
    if not len(above):
        return nextafter(too_low, np.inf)
    lowest = float(above.min())
    return max((too_low + lowest) / 2, nextafter(too_low, np.inf))


def fit_threshold(
    scores: Float64[np.ndarray, " flows"],
    is_attack: Bool[np.ndarray, " flows"],
    target_fpr: float,
    num_distinct: int | None = None,
) -> Threshold:
    """The lowest threshold that keeps the target FPR on these flows, some of which must be benign.

    Args:
        num_distinct: Number of different benign flows; None: all are different.
    """
    is_benign = ~is_attack
    num_benign = int(is_benign.sum())
    # The small term keeps 0.01 * 700 = 7.000000000000001 and the like at 7.
    threshold = laxest_threshold(scores, is_benign, int(target_fpr * num_benign + 1e-9))
    num_false = int((scores[is_benign] >= threshold).sum())
    num_distinct = num_benign if num_distinct is None else min(num_distinct, num_benign)
    return Threshold(
        target_fpr=target_fpr,
        threshold=threshold,
        num_benign=num_benign,
        num_false_positives=num_false,
        fpr_interval=wilson_interval(num_false, num_benign),
        num_distinct=num_distinct,
        is_trusted=num_distinct * target_fpr >= MIN_EXPECTED_FALSE_POSITIVES,
    )


def threshold_metrics(
    scores: Float64[np.ndarray, " flows"], is_attack: Bool[np.ndarray, " flows"], at: Threshold
) -> ThresholdMetrics:
    """Metrics of the threshold on these flows."""
    is_alert = scores >= at.threshold
    num_alerts, num_found = int(is_alert.sum()), int((is_alert & is_attack).sum())
    num_attacks = int(is_attack.sum())
    num_benign, num_false = len(scores) - num_attacks, num_alerts - num_found
    fpr = num_false / num_benign if num_benign else None
    detection = num_found / num_attacks if num_attacks else None
    return ThresholdMetrics(
        target_fpr=at.target_fpr,
        threshold=at.threshold,
        fpr=fpr,
        fpr_interval=wilson_interval(num_false, num_benign) if num_benign else None,
        tpr=detection,
        precision=num_found / num_alerts if num_alerts else None,
        precision_at_prevalence={
            np.format_float_positional(share): precision_at(share, detection, fpr) for share in PREVALENCES
        },
        alerts_per_10000=10_000 * num_alerts / max(1, len(scores)),
    )


def precision_at(prevalence: float, detection: float | None, fpr: float | None) -> float | None:
    """Precision at this prevalence of attacks; None without a false alert to estimate it from.

    >>> precision_at(0.001, detection=0.5, fpr=0.01)
    0.047...
    """
    if detection is None or not fpr:
        return None
    detected = prevalence * detection
    return detected / (detected + (1 - prevalence) * fpr)


def wilson_interval(num_hits: int, num_tries: int) -> Interval:
    """95 % interval of a proportion, valid even for 0 or all hits.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    >>> low, high = wilson_interval(0, 1000)
    >>> low, round(high, 5)
    (0.0, 0.00383)
    """
    proportion, square = num_hits / num_tries, _NORMAL_QUANTILE**2
    centre = proportion + square / (2 * num_tries)
    reach = _NORMAL_QUANTILE * sqrt(proportion * (1 - proportion) / num_tries + square / (4 * num_tries**2))
    scale = 1 + square / num_tries
    low = (centre - reach) / scale if num_hits else 0.0
    return low, ((centre + reach) / scale if num_hits < num_tries else 1.0)
