"""At which score a detector raises an alert: fitted on validation flows or on the user's own, saved in the
artifact."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Float64

from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.errors import ConfigError
from wirebert.metrics.thresholds import Threshold

PASS: Final = "pass"
ALERT: Final = "alert"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationSummary:
    """What was folded into the classifier's last layer after training, class by class in the model's
    order."""

    method: str
    """How logits were scaled: none, temperature, biases or vector."""
    scale: tuple[float, ...]
    bias: tuple[float, ...]
    num_flows: int
    """Validation flows it was fitted on."""
    loss_before: float
    """Their log-loss (nats)."""
    loss_after: float
    """The same, scaled, before another prior was folded in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertBudget:
    """A threshold set on unlabelled traffic so that no more than a number of alerts comes."""

    threshold: float
    alerts_per_10000: float
    """What was allowed, per 10,000 flows."""
    num_flows: int
    """Flows it was set on."""
    num_alerts: int
    """Alerts among them."""
    num_days: float | None = None
    """Time that they span, if it is known."""
    traffic_sha256: str = ""
    """Of the files' content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """How the artifact's probabilities came to mean what they say, and where they raise an alert."""

    class_priors: Mapping[str, float]
    """Share of each class that the probabilities assume."""
    calibration: CalibrationSummary
    confusion: tuple[tuple[float, ...], ...] = ()
    """Row: true class; column: mean probability of each class, on validation flows."""
    thresholds: tuple[Threshold, ...] = ()
    """Of the alert score, by falling false positive rate; none where no class means benign, or after another
    prior was folded in without labels to fit them anew."""
    alert_fpr: float = 0.001
    """The false positive rate that holds unless another is asked for."""
    novelty_thresholds: tuple[Threshold, ...] = ()
    """Of the novelty, at the same rates; none where the artifact cannot tell it."""
    alert_budget: AlertBudget | None = None
    """Holds instead of `alert_fpr` if it is there."""
    alert_score: CombinedAlertScore | None = None
    """What makes the alert score of attack score and novelty; None: the attack score is the alert score."""
    notes: tuple[str, ...] = field(default=())
    """What was done to the artifact since training, in words, oldest first."""

    def threshold_at(self, rate: float | None) -> float | None:
        """The alert score that raises an alert: at this false positive rate, or where the artifact was set.

        None where the artifact has no threshold.

        Raises:
            ConfigError: no threshold was fitted for this rate.
        """
        if rate is None and self.alert_budget is not None:
            return self.alert_budget.threshold
        if rate is None and not self.thresholds:
            return None
        return _at(self.thresholds, self.alert_fpr if rate is None else rate).threshold

    def novelty_threshold_at(self, rate: float | None) -> float | None:
        """The novelty from which a flow is unknown, at the same rate; None where the artifact cannot tell."""
        return (
            _at(self.novelty_thresholds, self.alert_fpr if rate is None else rate).threshold
            if self.novelty_thresholds
            else None
        )


NO_OPERATING_POINT: Final = OperatingPoint(
    class_priors={},
    calibration=CalibrationSummary(
        method="none", scale=(), bias=(), num_flows=0, loss_before=0.0, loss_after=0.0
    ),
)
"""Of an artifact for which nothing was fitted."""


def verdicts(
    alert_score: Float64[np.ndarray, " flows"] | None,
    threshold: float | None,
    novelty: Float64[np.ndarray, " flows"] | None = None,
    novelty_threshold: float | None = None,
) -> tuple[str, ...] | None:
    """`alert` or `pass` for each flow, or `unknown` for one that is like nothing in training,
    whatever its score.

    None where there is nothing to go by.

    >>> verdicts(np.array([0.9, 0.9, 0.1]), 0.5, np.array([0.0, 3.0, 0.0]), 2.0)
    ('alert', 'unknown', 'pass')
    """
    is_alert = None if alert_score is None or threshold is None else alert_score >= threshold
    is_unknown = None if novelty is None or novelty_threshold is None else novelty >= novelty_threshold
    if is_alert is None and is_unknown is None:
        return None
    known = PASS if is_alert is None else np.where(is_alert, ALERT, PASS)
    found = known if is_unknown is None else np.where(is_unknown, UNKNOWN, known)
    return tuple(np.asarray(found).tolist())


def _at(thresholds: tuple[Threshold, ...], rate: float) -> Threshold:
    for threshold in thresholds:
        if np.isclose(threshold.target_fpr, rate, rtol=1e-6, atol=0):
            return threshold
    known = ", ".join(np.format_float_positional(one.target_fpr) for one in thresholds)
    raise ConfigError(
        "--fpr must be a false positive rate that the model has a threshold for "
        f"({known or 'it has none'}), got {rate}; set one from your own traffic with `wirebert calibrate`"
    )
