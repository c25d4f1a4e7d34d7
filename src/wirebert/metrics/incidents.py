"""Metrics of incidents, flows of one source and class without a long gap, beside those of flows."""

from dataclasses import dataclass

import numpy as np

from wirebert.shapes import Bool, Float64, Int64

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentMetrics:
    """How well alerts, taken together as incidents, tell attacks. None where a denominator is 0."""

    num_raised: int
    """Incidents that the alerts make."""
    num_right: int
    """Of these, incidents of which at least half of the flows are attacks."""
    num_true: int
    """Incidents that the attacks make."""
    num_found: int
    """Of these, incidents of which a flow is in one that was raised."""
    num_alerts: int
    """Flows alerted: what there is to look at without incidents."""
    flow_precision: float | None
    """Share of the alerted flows that are attacks."""
    flow_recall: float | None
    """Share of the attacks that are alerted."""
    days: float
    """Days from the first flow to the last."""
    time_to_alert_s: float | None
    """Median time from the first flow of a found incident to its first alert."""

    precision: float | None
    """Share of the incidents raised that are right."""
    recall: float | None
    """Share of the true incidents that are found."""
    per_day: float | None
    """Incidents raised a day."""


def incident_metrics(
    raised: Int64[np.ndarray, " flows"],
    true: Int64[np.ndarray, " flows"],
    time_s: Float64[np.ndarray, " flows"],
    is_alert: Bool[np.ndarray, " flows"] | None = None,
) -> IncidentMetrics:
    """Metrics of incidents.

    Args:
        raised: The incident of each flow that is alerted, from 0; -1 for other flows.
        true: The incident of each flow that is an attack, from 0; -1 for benign flows.
        is_alert: Flows that are alerted; more than those of incidents where weak alerts raise none.

    >>> found = incident_metrics(np.array([0, 0, 1, -1]), np.array([0, -1, -1, 0]), np.array([5.0, 6, 7, 0]))
    >>> found.precision, found.recall, found.time_to_alert_s
    (0.5, 1.0, 5.0)
    """
    is_raised, is_attack = raised >= 0, true >= 0
    is_alert = is_raised if is_alert is None else is_alert
    num_alerts, num_hits = int(is_alert.sum()), int((is_alert & is_attack).sum())
    sizes = np.bincount(raised[is_raised])
    hits = np.bincount(raised[is_raised & is_attack], minlength=len(sizes))
    num_true = int(true.max(initial=-1)) + 1
    started, alerted = (
        _earliest(true, time_s, rows, num_true) for rows in (is_attack, is_attack & is_raised)
    )
    is_found = np.isfinite(alerted)
    num_right, num_found = int((2 * hits >= sizes).sum()), int(is_found.sum())
    known = time_s[~np.isnan(time_s)]
    days = float(np.ptp(known)) / _SECONDS_PER_DAY if len(known) else 0.0
    return IncidentMetrics(
        num_raised=len(sizes),
        num_right=num_right,
        num_true=num_true,
        num_found=num_found,
        num_alerts=num_alerts,
        flow_precision=num_hits / num_alerts if num_alerts else None,
        flow_recall=num_hits / int(is_attack.sum()) if is_attack.any() else None,
        days=days,
        precision=num_right / len(sizes) if len(sizes) else None,
        recall=num_found / num_true if num_true else None,
        per_day=len(sizes) / days if days else None,
        time_to_alert_s=float(np.median((alerted - started)[is_found])) if is_found.any() else None,
    )


def _earliest(
    groups: Int64[np.ndarray, " flows"],
    time_s: Float64[np.ndarray, " flows"],
    rows: Bool[np.ndarray, " flows"],
    num_groups: int,
) -> Float64[np.ndarray, " groups"]:
    """The time of the first of these rows of each group; infinite where a group has none."""
    earliest = np.full(num_groups, np.inf)
    np.minimum.at(earliest, groups[rows], time_s[rows])
    return earliest
