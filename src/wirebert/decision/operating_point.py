"""The operating point of a detector: its calibration and alert thresholds, saved in the artifact."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from wirebert.data.findings import Finding
from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.errors import ConfigError
from wirebert.metrics.thresholds import MIN_EXPECTED_FALSE_POSITIVES, Threshold, wilson_interval
from wirebert.shapes import Float64

PASS: Final = "pass"
ALERT: Final = "alert"
UNKNOWN: Final = "unknown"

SHIFT: Final = (
    "no validation covers a shift of the traffic, so set the threshold on later traffic of your own with "
    "`wirebert calibrate`"
)
"""What every threshold that was fitted on validation flows leaves open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationSummary:
    """The calibration folded into the classifier's last layer, per class in the model's order."""

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
    """A threshold set on unlabelled traffic so that the number of alerts stays within a budget."""

    threshold: float
    alerts_per_10000: float
    """The budget, in alerts per 10,000 flows."""
    num_flows: int
    """Flows it was set on."""
    num_alerts: int
    """Alerts among them."""
    num_days: float | None = None
    """Days that the flows span, if known."""
    traffic_sha256: str = ""
    """Sha256 of the files' content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """Calibration, class priors and alert thresholds of an artifact."""

    class_priors: Mapping[str, float]
    """The class priors that the probabilities assume; empty if unknown."""
    calibration: CalibrationSummary
    confusion: tuple[tuple[float, ...], ...] = ()
    """Row: true class; column: mean probability of each class, on validation flows."""
    thresholds: tuple[Threshold, ...] = ()
    """Of the alert score, by falling false positive rate; none where no class is benign, or after a new prior
    without labels to fit them again."""
    alert_fpr: float = 0.001
    """Target false positive rate unless another is requested."""
    novelty_thresholds: tuple[Threshold, ...] = ()
    """Of the novelty, at the same rates; none where the artifact has no novelty reference."""
    alert_budget: AlertBudget | None = None
    """Replaces `alert_fpr` if present."""
    alert_score: CombinedAlertScore | None = None
    """Combines attack score and novelty into the alert score; None: the alert score is the attack score."""
    notes: tuple[str, ...] = field(default=())
    """Changes to the artifact since training, in words, oldest first."""

    @property
    def deployed(self) -> Threshold | None:
        """The threshold that verdicts are made by, unless another rate is requested; None without one.

        That of an alert budget counts the budget as its target, as if all that traffic were benign.
        """
        budget = self.alert_budget
        if budget is None:
            return _at(self.thresholds, self.alert_fpr) if self.thresholds else None
        return Threshold(
            target_fpr=budget.alerts_per_10000 / 10_000,
            threshold=budget.threshold,
            num_benign=budget.num_flows,
            num_false_positives=budget.num_alerts,
            fpr_interval=wilson_interval(budget.num_alerts, budget.num_flows),
            num_distinct=budget.num_flows,
            is_trusted=True,
        )

    def findings(self, rate: float | None = None) -> tuple[Finding, ...]:
        """What is known against verdicts at this false positive rate, or as configured."""
        if not self.thresholds or (rate is None and self.alert_budget is not None):
            return ()
        used = _at(self.thresholds, self.alert_fpr if rate is None else rate)
        if used.is_trusted:
            return ()
        needed = round(MIN_EXPECTED_FALSE_POSITIVES / used.target_fpr)
        finding = Finding(
            code="untrusted_threshold",
            severity="warning",
            count=used.num_distinct,
            example=f"{used.threshold:.6g}",
            message=f"the alert threshold for a target FPR of {100 * used.target_fpr:.4g} % was fitted on "
            f"{used.num_distinct:,} different benign flows, where {needed:,} are needed, so false positives "
            f"may be far more; {SHIFT}",
        )
        return (finding,)

    def threshold_at(self, rate: float | None) -> float | None:
        """The alert score from which a flow raises an alert, at this false positive rate or as configured.

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
        """The novelty from which a flow is unknown, at the same rate; None without novelty thresholds."""
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
"""The operating point of an artifact without calibration or thresholds."""


def verdicts(
    alert_score: Float64[np.ndarray, " flows"] | None,
    threshold: float | None,
    novelty: Float64[np.ndarray, " flows"] | None = None,
    novelty_threshold: float | None = None,
) -> tuple[str, ...] | None:
    """`alert` or `pass` for each flow, or `unknown` from the novelty threshold on, whatever its score.

    None if neither threshold applies.

    >>> verdicts(np.array([0.9, 0.9, 0.1]), 0.5, np.array([0.0, 3.0, 0.0]), 2.0)
    ('alert', 'unknown', 'pass')
    """
    is_alert = None if alert_score is None or threshold is None else alert_score >= threshold
    is_unknown = None if novelty is None or novelty_threshold is None else novelty >= novelty_threshold
    if is_alert is None and is_unknown is None:
        return None
    by_score = PASS if is_alert is None else np.where(is_alert, ALERT, PASS)
    combined = by_score if is_unknown is None else np.where(is_unknown, UNKNOWN, by_score)
    return tuple(np.asarray(combined).tolist())


def _at(thresholds: tuple[Threshold, ...], rate: float) -> Threshold:
    for threshold in thresholds:
        if np.isclose(threshold.target_fpr, rate, rtol=1e-6, atol=0):
            return threshold
    rates = ", ".join(np.format_float_positional(one.target_fpr) for one in thresholds)
    raise ConfigError(
        "--fpr must be a false positive rate that the model has a threshold for "
        f"({rates or 'it has none'}), got {rate}; set one from your own traffic with `wirebert calibrate`"
    )
