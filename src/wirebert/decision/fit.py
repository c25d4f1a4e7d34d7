"""Calibration, thresholds and novelty, fitted on validation flows after training. Arrays in, settings out.

Calibration and prior are a scale and a bias of the logits, which the artifact folds into the classifier's
last layer, so that stock `transformers` gives the same probabilities; thresholds and the novelty scorer are
saved next to the weights.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from wirebert.data.flows import Flows, FlowSubset
from wirebert.data.labels import ClassMap
from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.calibration import (
    METHODS,
    LogitScaling,
    choose_scaling,
    fit_scaling,
    log_losses,
    mean_probabilities,
    softmax,
)
from wirebert.decision.config import DecisionConfig, logit_offsets_of, stated_priors
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import NO_OPERATING_POINT, CalibrationSummary, OperatingPoint
from wirebert.encoding.matrix import concatenate, extract_features
from wirebert.metrics.thresholds import FALSE_POSITIVE_RATES, Threshold, attack_scores, fit_threshold
from wirebert.shapes import Bool, Float32, Float64, Int64, UInt64

MAX_SAMPLED: Final = 100_000
"""Most training flows that novelty references are chosen from, and most benign flows for thresholds."""

MAX_BENIGN: Final = 200_000
"""Most benign validation flows whose novelty is computed where alerts use it."""


def fit_calibration(
    logits: Float32[np.ndarray, "flows classes"],
    class_ids: Int64[np.ndarray, " flows"],
    classes: ClassMap,
    config: DecisionConfig,
    *,
    reweights_classes: bool,
    seed: int,
    row_hashes: UInt64[np.ndarray, " flows"] | None = None,
) -> tuple[LogitScaling, OperatingPoint]:
    """Scale and bias of the logits (calibration, prior, offsets), and thresholds of the scaled attack score.

    Args:
        logits: Logits of the validation flows by the uncalibrated model.
        class_ids: Their classes; flows with a negative id are ignored.
        classes: The classes of the columns of `logits`.
        reweights_classes: Whether training weighed classes against their frequency.
        row_hashes: Equal for equal flows; None: all are different.
    """
    is_labelled = class_ids >= 0
    logits, class_ids = logits[is_labelled], class_ids[is_labelled]
    hashes = np.arange(len(logits), dtype=np.uint64) if row_hashes is None else row_hashes[is_labelled]
    names = classes.classes
    if config.calibration == "auto":
        methods = METHODS[:2] if reweights_classes and not config.prior else METHODS
        scaling = choose_scaling(logits, class_ids, methods=methods, seed=seed)
    else:
        scaling = fit_scaling(logits, class_ids, config.calibration)
    loss_before, loss_after = (
        float(log_losses(some, class_ids).mean()) for some in (logits, scaling.apply(logits))
    )
    shares = np.bincount(class_ids, minlength=len(names)) / len(class_ids)
    probabilities = softmax(scaling.apply(logits))
    confusion = mean_probabilities(probabilities, class_ids)
    if config.prior:
        stated = stated_priors(config.prior, names, shares)
        scaling, shares = scaling.with_prior(shares, stated), stated
        probabilities = softmax(scaling.apply(logits))
    if config.logit_offsets:
        scaling = scaling.moved(logit_offsets_of(config, names))
        probabilities = softmax(scaling.apply(logits))
    thresholds = _attack_thresholds(probabilities, class_ids, classes, hashes)
    # With class weights and no fitted biases, or with offsets, the probabilities assume no known priors.
    is_named = (not reweights_classes or scaling.method in ("biases", "vector")) and not config.logit_offsets
    operating = OperatingPoint(
        class_priors=dict(zip(names, shares.tolist(), strict=True)) if is_named else {},
        calibration=CalibrationSummary(
            method=scaling.method,
            scale=tuple(scaling.scale.tolist()),
            bias=tuple(scaling.bias.tolist()),
            num_flows=len(logits),
            loss_before=loss_before,
            loss_after=loss_after,
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        thresholds=thresholds,
        alert_fpr=_default_rate(thresholds) if config.alert_fpr is None else config.alert_fpr,
    )
    return scaling, operating


def _attack_thresholds(
    probabilities: Float64[np.ndarray, "flows classes"],
    class_ids: Int64[np.ndarray, " flows"],
    classes: ClassMap,
    row_hashes: UInt64[np.ndarray, " flows"],
) -> tuple[Threshold, ...]:
    """Thresholds of the attack score at the usual rates; none without a benign class or benign flows."""
    if classes.benign is None:
        return ()
    benign_id = classes.classes.index(classes.benign)
    is_attack = class_ids != benign_id
    if is_attack.all():
        return ()
    scores = attack_scores(probabilities, benign_id)
    num_distinct = len(np.unique(row_hashes[~is_attack]))
    return tuple(fit_threshold(scores, is_attack, rate, num_distinct) for rate in FALSE_POSITIVE_RATES)


def unlabelled_operating_point(
    scores: Float64[np.ndarray, " flows"], num_distinct: int, config: DecisionConfig
) -> OperatingPoint:
    """Thresholds of the scores of unlabelled flows: the share of these that score as high is the target."""
    thresholds = _benign_thresholds(scores, num_distinct)
    rate = _default_rate(thresholds) if config.alert_fpr is None else config.alert_fpr
    return replace(NO_OPERATING_POINT, thresholds=thresholds, alert_fpr=rate)


def _default_rate(thresholds: tuple[Threshold, ...]) -> float:
    is_trusted = {one.target_fpr: one.is_trusted for one in thresholds}
    return 0.001 if is_trusted.get(0.001) else 0.01


def calibrated_attack_scores(
    logits: Float32[np.ndarray, "flows classes"], scaling: LogitScaling, benign_id: int
) -> Float64[np.ndarray, " flows"]:
    """Attack scores by the calibrated model, from the logits before calibration."""
    return attack_scores(softmax(scaling.apply(logits)), benign_id)


class NoveltyRows(NamedTuple):
    """What novelty is measured on."""

    flows: Flows
    is_train: Bool[np.ndarray, " rows"]
    """Rows that training saw, some of which are kept."""
    is_valid: Bool[np.ndarray, " rows"]
    """Validation rows, all of which are scored."""
    is_benign: Bool[np.ndarray, " rows"]
    """The benign ones among them; thresholds are fitted on some of these."""
    num_kept: int
    seed: int
    joins_attack_score: bool = False
    """Whether alerts use novelty and attack score together; then more benign rows count."""
    is_relative: bool = False
    """Whether novelty is relative to how far apart training flows lie nearby."""


class MeasuredNovelty(NamedTuple):
    """A scorer, and its scores of the validation rows: nothing in it depends on the model."""

    scorer: NoveltyScorer
    scores: Float64[np.ndarray, " valid"]
    is_benign: Bool[np.ndarray, " valid"]
    """The benign rows for thresholds."""


def measure_novelty(receive: Callable[[], NoveltyRows]) -> MeasuredNovelty:
    """Fit the novelty scorer on training rows, and score the validation rows."""
    rows = receive()
    rng = np.random.default_rng(rows.seed)
    kept = FlowSubset("kept", rows.flows, _some(rows.is_train, MAX_SAMPLED, rng))
    most_benign = MAX_BENIGN if rows.joins_attack_score else MAX_SAMPLED
    is_benign = _some(rows.is_benign, most_benign, rng)[rows.is_valid]
    schema = rows.flows.schema
    features = concatenate([extract_features(table, schema) for table in kept.tables()])
    scorer = NoveltyScorer.fit(features, rows.num_kept, rows.seed, is_relative=rows.is_relative)
    valid = FlowSubset("valid", rows.flows, rows.is_valid)
    scores = [scorer.scores(extract_features(table, schema)) for table in valid.tables()]
    return MeasuredNovelty(scorer, np.concatenate([np.empty(0), *scores]), is_benign)


def add_novelty(
    operating: OperatingPoint,
    measured: MeasuredNovelty,
    attack_scores: Float64[np.ndarray, " valid"] | None = None,
    novelty_weight: float = 1.0,
) -> OperatingPoint:
    """The operating point with thresholds of novelty.

    With `attack_scores`, it alerts by attack score and novelty combined.

    Args:
        operating: The operating point from `fit_calibration`.
        attack_scores: Of the validation rows, by the calibrated model.
        novelty_weight: Weight of novelty relative to the attack scores.
    """
    novelty = measured.scores[measured.is_benign]
    if not len(novelty):
        return operating
    num_distinct = operating.thresholds[0].num_distinct if operating.thresholds else None
    operating = replace(operating, novelty_thresholds=_benign_thresholds(novelty, num_distinct))
    if attack_scores is None:
        return operating
    benign_scores = attack_scores[measured.is_benign]
    combined = CombinedAlertScore.fit(benign_scores, novelty, novelty_weight)
    thresholds = _benign_thresholds(combined.scores(benign_scores, novelty), num_distinct)
    return replace(operating, alert_score=combined, thresholds=thresholds)


def _benign_thresholds(
    scores: Float64[np.ndarray, " benign"], num_distinct: int | None
) -> tuple[Threshold, ...]:
    no_attack = np.zeros(len(scores), bool)
    return tuple(fit_threshold(scores, no_attack, rate, num_distinct) for rate in FALSE_POSITIVE_RATES)


def _some(rows: Bool[np.ndarray, " rows"], most: int, rng: np.random.Generator) -> Bool[np.ndarray, " rows"]:
    positions = np.flatnonzero(rows)
    if len(positions) <= most:
        return rows
    is_chosen = np.zeros(len(rows), bool)
    is_chosen[rng.permutation(positions)[:most]] = True
    return is_chosen
