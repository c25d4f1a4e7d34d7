"""Every metric of an evaluated split (`compute_metrics` -> `SplitMetrics`), and its most confident errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypedDict, cast

import numpy as np

from wirebert.metrics.confusion import class_metrics, confusion_matrix
from wirebert.metrics.curves import OperatingCurve, ScoreCurves, ScoreHistogram, score_curves, score_histogram
from wirebert.metrics.incidents import IncidentMetrics
from wirebert.metrics.intervals import Intervals, bootstrap
from wirebert.metrics.registry import BINARY_ACCURACY, METRICS, headline_metrics
from wirebert.metrics.reliability import Calibration, reliability
from wirebert.metrics.thresholds import (
    FALSE_POSITIVE_RATES,
    Threshold,
    ThresholdMetrics,
    attack_scores,
    fit_threshold,
    threshold_metrics,
)
from wirebert.serialization import to_builtins
from wirebert.shapes import Bool, Float, Float64, Int64, UInt64

NUM_MISTAKES = 200
PER_CONFUSION = 10
"""Mistakes kept per pair of true and predicted class: further ones would add little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A flow with a wrong verdict."""

    row: int
    """Row number in its file, as in `predictions`."""
    label: str
    """Label as in the file."""
    true_class: str
    predicted_class: str
    probability: float
    """Probability of the predicted class."""
    attack_score: float | None = None
    """1 - P(benign); None without a benign class."""
    flow: Mapping[str, str]
    """Column -> value, in the order of the file; missing values are omitted."""
    top_features: Mapping[str, float] = field(default_factory=dict)
    """Feature -> its contribution to the verdict, the largest first; empty if unknown."""


def most_confident_errors(
    probabilities: Float64[np.ndarray, " wrong"],
    confusions: Int64[np.ndarray, " wrong"],
    row_hashes: UInt64[np.ndarray, " wrong"],
) -> Int64[np.ndarray, " chosen"]:
    """Positions of the mistakes to show, the most confident first; ties keep their order.

    Flows with equal tokens are shown once, and each confusion at most `PER_CONFUSION` times.

    Args:
        confusions: An id for each pair of true and predicted class.
    """
    order = np.argsort(-probabilities, kind="stable")
    _, first = np.unique(
        np.stack([confusions.astype(np.uint64), row_hashes])[:, order], axis=1, return_index=True
    )
    order = order[np.sort(first)]
    grouped = np.argsort(confusions[order], kind="stable")
    _, starts, sizes = np.unique(confusions[order][grouped], return_index=True, return_counts=True)
    rank = np.empty(len(order), dtype=np.int64)
    rank[grouped] = np.arange(len(order)) - np.repeat(starts, sizes)
    return order[rank < PER_CONFUSION][:NUM_MISTAKES]


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Metrics of one class against the rest; 0 if the denominator is 0."""

    precision: float
    recall: float
    f1: float
    accuracy: float
    """Fraction of all flows correctly assigned to this class or to the rest."""
    support: int
    """Number of flows of this class."""


@dataclass(frozen=True, slots=True)
class BinaryMetrics:
    """Attack vs benign, whatever the kind of attack. Attack is the positive class."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    false_positive_rate: float
    """Fraction of benign flows predicted as attacks, by the most probable class."""
    auroc: float | None
    """Of the alert score; None if the file lacks attacks or benign flows (so are the next two)."""
    average_precision: float | None
    tpr_at_fpr: Mapping[str, float | None]
    """False positive rate -> detection rate at the threshold for it, fitted on these same flows."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """A confusion matrix: rows are true classes, columns are predicted classes."""

    labels: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetMetrics:
    """Headline metrics on a subset of a split's flows."""

    num_flows: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOverlap:
    """A split in two: flows identical to a training flow after tokenisation, and all others."""

    seen: SubsetMetrics
    """Flows that the model may have memorised."""
    unseen: SubsetMetrics
    """Flows that it must generalise to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitMetrics:
    """Every metric of one evaluated split, as plain numbers."""

    num_flows: int
    loss: float | None
    """Mean cross-entropy (nats) of the flows whose class the model knows; None if there are none."""
    headline: Mapping[str, float]
    """Key of `registry.METRICS` -> value, for the metrics that follow from predicted classes."""
    per_class: Mapping[str, ClassMetrics]
    confusion: Confusion
    classes_not_in_training: Mapping[str, int]
    """Classes that training lacks -> number of flows. Errors in every metric except the loss."""
    intervals: Intervals | None
    """None for an empty split."""
    binary: BinaryMetrics | None = None
    """None without a benign class."""
    train_overlap: TrainOverlap | None = None
    """None if it is unknown which flows training has seen."""
    operating_points: tuple[ThresholdMetrics, ...] = ()
    """Metrics of the thresholds for low target FPRs; none without benign flows."""
    deployed: ThresholdMetrics | None = None
    """Metrics of the threshold that the model's verdicts are made by; None without one."""
    thresholds_from: str | None = None
    """The split on which those thresholds were fitted; None: this one, so the metrics are optimistic."""
    alert_score: Literal["attack", "attack_and_novelty"] = "attack"
    """The alert score: the attack score 1 - P(benign), or its combination with novelty."""
    calibration: Calibration | None = None
    """None for an empty split."""
    curves: ScoreCurves | None = None
    score_histogram: ScoreHistogram | None = None
    """Of the attack score; None without a benign class."""
    mistakes: tuple[Mistake, ...] = ()
    """The most confident errors that were kept."""
    incidents: IncidentMetrics | None = None
    """Of the alerts taken together; None where verdicts, sources, times or the benign class are not known."""

    @property
    def accuracy(self) -> float:
        """Fraction of flows whose predicted class is the true one."""
        return self.headline["accuracy"]

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur or are predicted."""
        return self.headline["macro_f1"]

    def to_json(self) -> dict[str, object]:
        """The shape of `splits.<name>` in report.json; without a benign class there are no binary metrics."""
        data = cast(dict[str, object], to_builtins(self))
        if self.binary is None:
            del data["binary"]
        if self.train_overlap is None:
            del data["train_overlap"]
        if self.incidents is None:
            del data["incidents"]
        return data


@dataclass(frozen=True, slots=True)
class FittedThresholds:
    """Thresholds of the alert score."""

    split: str
    """The split on which they were fitted."""
    limits: tuple[Threshold, ...]
    deployed: Threshold | None = None
    """The one that verdicts are made by, if it is stored with the model."""


def compute_metrics(
    true_ids: Int64[np.ndarray, " flows"],
    probabilities: Float[np.ndarray, "flows classes"],
    classes: tuple[str, ...],
    benign: str | None,
    *,
    extra_classes: tuple[str, ...] = (),
    clusters: Int64[np.ndarray, " flows"] | None = None,
    is_seen: Bool[np.ndarray, " flows"] | None = None,
    thresholds: FittedThresholds | None = None,
    alert_scores: Float64[np.ndarray, " flows"] | None = None,
    seed: int = 0,
    num_resamples: int = 1000,
) -> SplitMetrics:
    """All metrics of one split; the verdict on a flow is its most probable class.

    Args:
        true_ids: Position of each flow's class in `classes + extra_classes`; every flow has a label.
        benign: The benign class; None, or a class that the model does not know: no binary metrics.
        extra_classes: Classes that the file has and training lacks. Their flows always count as errors.
        clusters: Cluster ids, for the second kind of interval (see `intervals.bootstrap`).
        is_seen: Whether training had a flow with the same tokens.
        thresholds: Fitted on other flows; None: fit one on these flows for each of `FALSE_POSITIVE_RATES`.
        alert_scores: Attack score and novelty combined, if alerts use both; None: the attack score alone.

    Examples:
        >>> probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
        >>> metrics = compute_metrics(np.array([0, 0, 1]), probabilities, ("ok", "scan"), "ok")
        >>> metrics.accuracy, metrics.per_class["scan"].recall
        (0.66..., 1.0)
    """
    labels = classes + extra_classes
    assert len(set(labels)) == len(labels), "a class is named twice"
    assert not len(true_ids) or 0 <= true_ids.min() <= true_ids.max() < len(labels), "no such class"
    predicted_ids = probabilities.argmax(axis=1).astype(np.int64)
    benign_id = classes.index(benign) if benign in classes else None
    matrix = confusion_matrix(true_ids, predicted_ids, len(labels))
    headline = _headline(matrix, benign_id)
    curve = _attack_curve(true_ids, probabilities, alert_scores, benign_id)
    resample = partial(bootstrap, clusters=clusters, seed=seed, num_resamples=num_resamples)
    per_class = _per_class(matrix, labels)
    return SplitMetrics(
        num_flows=len(true_ids),
        loss=cross_entropy(true_ids, probabilities),
        headline={key: value for key, value in headline.items() if key in METRICS},
        per_class=per_class,
        confusion=Confusion(labels, tuple(tuple(row) for row in matrix.tolist())),
        binary=None if curve is None else _binary_metrics(headline, curve),
        classes_not_in_training={name: per_class[name].support for name in extra_classes},
        intervals=resample(true_ids, predicted_ids, labels, benign_id) if len(true_ids) else None,
        train_overlap=_train_overlap(true_ids, predicted_ids, is_seen, len(labels)),
        calibration=_calibration(true_ids, probabilities, benign_id) if len(true_ids) else None,
        curves=score_curves(true_ids, probabilities, classes, curve),
        **_alerts(true_ids, probabilities, alert_scores, labels, benign_id, thresholds),
    )


def _attack_curve(
    true_ids: Int64[np.ndarray, " flows"],
    probabilities: Float[np.ndarray, "flows classes"],
    alert_scores: Float64[np.ndarray, " flows"] | None,
    benign_id: int | None,
) -> OperatingCurve | None:
    if benign_id is None:
        return None
    scores = attack_scores(probabilities, benign_id) if alert_scores is None else alert_scores
    return OperatingCurve.of(scores, true_ids != benign_id)


class _Alerts(TypedDict, total=False):
    deployed: ThresholdMetrics | None
    operating_points: tuple[ThresholdMetrics, ...]
    thresholds_from: str | None
    alert_score: Literal["attack", "attack_and_novelty"]
    score_histogram: ScoreHistogram


def _alerts(
    true_ids: Int64[np.ndarray, " flows"],
    probabilities: Float[np.ndarray, "flows classes"],
    alert_scores: Float64[np.ndarray, " flows"] | None,
    labels: tuple[str, ...],
    benign_id: int | None,
    thresholds: FittedThresholds | None,
) -> _Alerts:
    """The metrics of the alert score; empty without a benign class."""
    if benign_id is None:
        return {}
    scores = attack_scores(probabilities, benign_id)
    alert = scores if alert_scores is None else alert_scores
    points = _operating_points(alert, true_ids != benign_id, thresholds)
    deployed = None if thresholds is None else thresholds.deployed
    return {
        "deployed": None if deployed is None else threshold_metrics(alert, true_ids != benign_id, deployed),
        "operating_points": points,
        "thresholds_from": thresholds.split if thresholds and points else None,
        "alert_score": "attack" if alert_scores is None else "attack_and_novelty",
        "score_histogram": score_histogram(scores, true_ids, labels, labels[benign_id]),
    }


def _train_overlap(
    true_ids: Int64[np.ndarray, " flows"],
    predicted_ids: Int64[np.ndarray, " flows"],
    is_seen: Bool[np.ndarray, " flows"] | None,
    num_labels: int,
) -> TrainOverlap | None:
    if is_seen is None:
        return None

    def metrics_of(subset: Bool[np.ndarray, " flows"]) -> SubsetMetrics:
        headline = _headline(confusion_matrix(true_ids[subset], predicted_ids[subset], num_labels), None)
        return SubsetMetrics(
            num_flows=int(subset.sum()), accuracy=headline["accuracy"], macro_f1=headline["macro_f1"]
        )

    return TrainOverlap(seen=metrics_of(is_seen), unseen=metrics_of(~is_seen))


def cross_entropy(
    true_ids: Int64[np.ndarray, " flows"], probabilities: Float[np.ndarray, "flows classes"]
) -> float | None:
    """Mean -log P(true class) (nats), with P clipped to one rounding step above 0.

    Flows of classes without a probability are ignored: they would add the log of an arbitrary small number.

    >>> cross_entropy(np.array([0, 1, 2]), np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]))
    0.693...
    """
    has_probability = np.flatnonzero(true_ids < probabilities.shape[1])
    if not len(has_probability):
        return None
    chosen = probabilities[has_probability, true_ids[has_probability]].astype(np.float64)
    smallest = float(np.finfo(probabilities.dtype).eps)
    return float(-np.log(chosen.clip(smallest, 1 - smallest)).mean())


def _headline(matrix: Int64[np.ndarray, "labels labels"], benign_id: int | None) -> dict[str, float]:
    stack = matrix[np.newaxis].astype(np.float64)
    return {name: float(value[0]) for name, value in headline_metrics(stack, benign_id).items()}


def _per_class(
    matrix: Int64[np.ndarray, "labels labels"], labels: tuple[str, ...]
) -> dict[str, ClassMetrics]:
    stack = matrix[np.newaxis].astype(np.float64)
    columns = {name: values[0].tolist() for name, values in class_metrics(stack).items()}
    return {
        label: ClassMetrics(
            precision=columns["precision"][position],
            recall=columns["recall"][position],
            f1=columns["f1"][position],
            accuracy=columns["accuracy"][position],
            support=int(columns["support"][position]),
        )
        for position, label in enumerate(labels)
    }


def _operating_points(
    scores: Float64[np.ndarray, " flows"],
    is_attack: Bool[np.ndarray, " flows"],
    given: FittedThresholds | None,
) -> tuple[ThresholdMetrics, ...]:
    if given is None and not (~is_attack).any():
        return ()
    limits = (
        given.limits if given else [fit_threshold(scores, is_attack, rate) for rate in FALSE_POSITIVE_RATES]
    )
    return tuple(threshold_metrics(scores, is_attack, limit) for limit in limits)


def _calibration(
    true_ids: Int64[np.ndarray, " flows"],
    probabilities: Float[np.ndarray, "flows classes"],
    benign_id: int | None,
) -> Calibration:
    highest = probabilities.max(axis=1).astype(np.float64)
    verdict = reliability(highest, probabilities.argmax(axis=1) == true_ids)
    if benign_id is None:
        return Calibration(verdict, None)
    return Calibration(verdict, reliability(attack_scores(probabilities, benign_id), true_ids != benign_id))


def _binary_metrics(headline: Mapping[str, float], curve: OperatingCurve) -> BinaryMetrics:
    return BinaryMetrics(
        accuracy=headline[BINARY_ACCURACY],
        precision=headline["binary_precision"],
        recall=headline["binary_recall"],
        f1=headline["binary_f1"],
        false_positive_rate=headline["binary_false_positive_rate"],
        auroc=curve.auroc,
        average_precision=curve.average_precision,
        tpr_at_fpr={
            np.format_float_positional(rate): curve.tpr_at_fpr(rate) for rate in FALSE_POSITIVE_RATES
        },
    )
