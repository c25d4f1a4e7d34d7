"""An alert threshold from the user's own unlabelled traffic: as many alerts as there is time to review."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa

from wirebert.alerts.flow_columns import flow_columns
from wirebert.alerts.grouping import group_keys, incident_ids
from wirebert.alerts.incident_records import IncidentSettings
from wirebert.data.arrow_columns import to_texts
from wirebert.data.flows import Flows
from wirebert.data.schema.schema import ColumnKind
from wirebert.data.times import seconds_of
from wirebert.decision.alert_score import log_odds
from wirebert.decision.calibration import TINY, LogitScaling, priors_by_confusion, priors_by_likelihood
from wirebert.decision.config import parse_prior, stated_priors
from wirebert.decision.drift import DriftReference
from wirebert.decision.operating_point import NO_OPERATING_POINT, AlertBudget
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.errors import ConfigError, DataError
from wirebert.inference.artifact import Artifact
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.metrics.thresholds import attack_scores, laxest_threshold
from wirebert.plurals import counted
from wirebert.shapes import Float64

_SECONDS_PER_DAY: Final = 86_400
_NUM_CANDIDATES: Final = 200
"""Thresholds at which incidents are counted, before the place between two is searched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertBudgetRequest:
    """How many alerts the user can review."""

    per_day: float | None = None
    days: float | None = None
    """Days that the traffic spans; None: computed from its time column."""
    per_10000: float | None = None
    """Alerts per 10,000 flows, instead of per day."""
    incidents_per_day: float | None = None
    """Incidents per day, instead of alerts: flows of one source and class without a long gap are one."""
    prior: tuple[str, ...] = ()
    """CLASS=SHARE entries, as `DecisionConfig.prior`."""
    estimates_prior: bool = False
    """Use the maximum-likelihood prior of the traffic."""

    def __post_init__(self) -> None:
        for name, value in {
            "--alerts-per-day": self.per_day,
            "--alerts-per-10000": self.per_10000,
            "--incidents-per-day": self.incidents_per_day,
            "--days": self.days,
        }.items():
            if value is not None and not 0 < value < np.inf:
                raise ConfigError(f"{name} must be above 0, got {value}")
        if self.prior and self.estimates_prior:
            raise ConfigError("--prior must be CLASS=SHARE entries or `estimate`, got both")
        parse_prior(self.prior)


def fit_alert_budget(
    detector: Detector, flows: Flows, allowance: AlertBudgetRequest, fit: TrafficFit | None = None
) -> Artifact:
    """The detector's artifact with a threshold that keeps alerts on these unlabelled flows within the budget.

    These flows become the drift reference: the threshold is good for traffic like them.

    `fit` collects how well the flows fit the model.

    Raises:
        ConfigError: no class is benign, so there is no attack score; or the prior cannot be computed.
        DataError: there are no flows, too few for even one alert, or no times to compute their span from.
    """
    artifact, notes = detector.artifact, list[str]()
    if (benign := artifact.classes.benign) is None:
        raise ConfigError(
            "calibrate needs a model that knows the benign class, found one that does not; train it with "
            "--benign CLASS"
        )
    blocks = TrafficBlocks(artifact.tokenizer)
    probabilities, novelty, seconds, sources = _score(
        detector, flows, fit or TrafficFit.of(artifact.tokenizer, flows), blocks
    )
    if len(probabilities) == 0:
        raise DataError(f"{flows.name}: expected flows, found none; give more traffic")
    if allowance.prior or allowance.estimates_prior:
        artifact, probabilities, note = _with_prior(artifact, probabilities, allowance)
        notes.append(note)
    days = allowance.days or _days(seconds)
    allowed = _allowed(allowance, days, len(probabilities), flows.name)
    scores = of_attack = attack_scores(probabilities, artifact.classes.classes.index(benign))
    operating = artifact.operating_point or NO_OPERATING_POINT
    if operating.alert_score is not None:
        scores = operating.alert_score.scores(scores, novelty)
    if allowance.incidents_per_day is None:
        threshold = laxest_threshold(scores, np.ones(len(scores), bool), int(allowed + 1e-9))
    else:
        names = _likely_attacks(artifact, probabilities)
        keys = group_keys(_sources(sources, seconds, flows.name), names, IncidentSettings().group_by)
        threshold, num_incidents = _incident_threshold(scores, of_attack, keys, seconds, int(allowed + 1e-9))
        notes.append(f"{counted(num_incidents, 'incident')} on {flows.name}")
    num_alerts = int((scores >= threshold).sum())
    per_10000 = (num_alerts if allowance.incidents_per_day else allowed) * 10_000 / len(scores)
    budget = AlertBudget(
        threshold=threshold,
        alerts_per_10000=per_10000,
        num_flows=len(scores),
        num_alerts=num_alerts,
        num_days=days,
        traffic_sha256=flows.fingerprint(),
    )
    found = f"{counted(len(scores), 'flow')} of {flows.name}: {counted(num_alerts, 'alert')}"
    notes.append(f"threshold {threshold:.6g} set on {found}")
    blocks.set_scores(of_attack, scores >= threshold)
    return replace(
        artifact,
        operating_point=replace(operating, alert_budget=budget, notes=(*operating.notes, *notes)),
        reference=DriftReference.fit(blocks, artifact.tokenizer),
    )


def _likely_attacks(artifact: Artifact, probabilities: Float64[np.ndarray, "flows classes"]) -> pa.Array:
    """The most probable class of each flow that is not benign."""
    is_benign = np.array([name == artifact.classes.benign for name in artifact.classes.classes])
    likely = np.where(is_benign, -1, probabilities).argmax(axis=1)
    return pa.array(artifact.classes.classes, pa.string()).take(pa.array(likely, pa.int64()))


def _allowed(allowance: AlertBudgetRequest, days: float | None, num_flows: int, name: str) -> float:
    """The number of alerts allowed on these flows."""
    if allowance.per_10000 is not None:
        allowed = allowance.per_10000 * num_flows / 10_000
    elif days is None:
        raise DataError(
            f"{name}: expected a column of times that spans some time, found none; "
            "give the length of the recording with --days, or give --alerts-per-10000"
        )
    else:
        per_day = allowance.incidents_per_day or allowance.per_day
        assert per_day is not None, "an allowance is per day or per 10,000 flows"
        allowed = per_day * days
    if allowed < 1:
        raise DataError(
            f"{name}: expected enough traffic for at least one alert, found {num_flows:,} flows, on which "
            f"{allowed:.2g} alerts are allowed; give more traffic or allow more alerts"
        )
    return allowed


def _sources(sources: list[pa.Array], seconds: Float64[np.ndarray, " known"], name: str) -> pa.Array:
    if not sources or not len(seconds):
        raise DataError(
            f"{name}: expected columns of source addresses and times, found no such columns; give "
            "--alerts-per-day instead of --incidents-per-day"
        )
    return pa.concat_arrays(sources)


def _incident_threshold(
    scores: Float64[np.ndarray, " flows"],
    of_attack: Float64[np.ndarray, " flows"],
    keys: pa.Array,
    seconds: Float64[np.ndarray, " flows"],
    allowed: int,
) -> tuple[float, int]:
    """A threshold that raises at most the allowed incidents, and their number.

    Every higher threshold that is looked at does so too: a lower one may join incidents, so that their number
    need not rise with that of alerts.
    """
    settings, ranked = IncidentSettings(), np.unique(scores)[::-1]

    def num_incidents(threshold: float) -> int:
        is_alert = scores >= threshold
        found = incident_ids(keys, seconds, is_alert, settings.gap_s, of_attack, settings.min_score)
        return int(found.max(initial=-1)) + 1

    places = np.unique(np.geomspace(1, len(ranked), _NUM_CANDIDATES).astype(np.int64)) - 1
    good = next(
        (at - 1 for at, place in enumerate(places) if num_incidents(float(ranked[place])) > allowed),
        len(places) - 1,
    )
    if good < 0:
        above = float(np.nextafter(ranked[0], np.inf))
        return above, 0
    low, high = int(places[good]), int(places[min(good + 1, len(places) - 1)])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if num_incidents(float(ranked[middle])) <= allowed else (low, middle)
    return float(ranked[low]), num_incidents(float(ranked[low]))


def _with_prior(
    artifact: Artifact, probabilities: Float64[np.ndarray, "flows classes"], allowance: AlertBudgetRequest
) -> tuple[Artifact, Float64[np.ndarray, "flows classes"], str]:
    """The artifact and the probabilities under another prior; thresholds of the old prior are dropped."""
    operating, names = artifact.operating_point, artifact.classes.classes
    if operating is None or not operating.class_priors:
        raise ConfigError(
            "--prior needs a model that knows the shares of its classes; train it again without "
            "decision.logit_offsets, and without class weights or with decision.calibration=biases"
        )
    trained = np.array([operating.class_priors[name] for name in names])
    if allowance.estimates_prior:
        shares = priors_by_likelihood(probabilities, trained)
        by_confusion = priors_by_confusion(probabilities, np.array(operating.confusion), trained)
        estimates = f"{_format_shares(names, shares)} (by confusion: {_format_shares(names, by_confusion)})"
        note = f"prior estimated from traffic: {estimates}"
    else:
        shares = stated_priors(parse_prior(allowance.prior), names, trained)
        note = f"prior stated: {_format_shares(names, shares)}"
    change = LogitScaling.identity(len(names)).with_prior(trained, shares)
    weighed = probabilities * (shares / trained.clip(TINY))
    alert_score = operating.alert_score
    if alert_score is not None and artifact.classes.benign is not None:
        # Attack scores of benign flows move with the odds of an attack, and so does their reference.
        is_attack = np.array([name != artifact.classes.benign for name in names])
        before, after = log_odds(np.array([part[is_attack].sum() for part in (trained, shares)]))
        alert_score = alert_score.shifted(float(after - before))
    shares_of = dict(zip(names, shares.tolist(), strict=True))
    operating = replace(operating, class_priors=shares_of, thresholds=(), alert_score=alert_score)
    changed = artifact.scaled(change, operating)
    return changed, weighed / weighed.sum(axis=1, keepdims=True), note


def _format_shares(names: tuple[str, ...], shares: Float64[np.ndarray, " classes"]) -> str:
    return ", ".join(f"{name} {share:.2%}" for name, share in zip(names, shares, strict=True))


def _score(
    detector: Detector, flows: Flows, fit: TrafficFit, blocks: TrafficBlocks
) -> tuple[
    Float64[np.ndarray, "flows classes"],
    Float64[np.ndarray, " flows"],
    Float64[np.ndarray, " known"],
    list[pa.Array],
]:
    """Probabilities, novelty (0 without a novelty model), and times and sources where flows have them."""
    times = [c.name for c in detector.schema.columns if c.kind is ColumnKind.TIME]
    probabilities = [np.empty((0, len(detector.classes)))]
    novelty, seconds, sources = [np.empty(0)], [np.empty(0)], list[pa.Array]()
    for table in flows.blocks(fit.invalid_values):
        block = detector.encode(table)
        fit.add(table, block)
        scores = detector.score(table, block)
        blocks.add(scores.for_drift(block))
        probabilities.append(scores.probabilities.astype(np.float64))
        novelty.append(np.zeros(table.num_rows) if scores.novelty is None else scores.novelty)
        time_column = next((name for name in times if name in table.column_names), None)
        if time_column is not None:
            seconds.append(seconds_of(table.column(time_column)))
        if (source := flow_columns(table.column_names).source) is not None:
            sources.append(to_texts(table.column(source)))
    return np.concatenate(probabilities), np.concatenate(novelty), np.concatenate(seconds), sources


def _days(seconds: Float64[np.ndarray, " known"]) -> float | None:
    finite = seconds[np.isfinite(seconds)]
    span = float(np.ptp(finite)) if len(finite) else 0.0
    return span / _SECONDS_PER_DAY if span > 0 else None
