"""Evaluate a saved detector on labelled files: save its verdicts and compute metrics from them.

The artifact is loaded from its folder and evaluated as deployed, not the model in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float64, Int64, UInt64

from wirebert.baselines.protocol import Baseline
from wirebert.data.flows import FlowSubset
from wirebert.data.labels import UNLABELLED, ClassMap
from wirebert.evaluation.mistakes import MistakenFlows
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import no_rows, open_writer
from wirebert.inference.verdicts import verdict_table
from wirebert.metrics.intervals import ALONE
from wirebert.metrics.split_metrics import FittedThresholds, SplitMetrics, compute_metrics
from wirebert.metrics.thresholds import Threshold


@final
class TrueClasses:
    """Collects the true classes of a part, block by block; labels that training lacks get further ids."""

    def __init__(self, classes: ClassMap) -> None:
        self.classes = classes
        self.labels: dict[str, int] = {}
        """Label as in the file -> its id, in order of appearance: the clusters of the bootstrap."""
        self._codes: list[Int64[np.ndarray, " rows"]] = []

    def add(self, labels: pa.ChunkedArray) -> None:
        """Append the labels of one block."""
        for chunk in labels.chunks:
            coded = chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()
            known = [
                UNLABELLED if text is None else self.labels.setdefault(text, len(self.labels))
                for text in coded.dictionary.to_pylist()
            ]
            index = coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
            self._codes.append(np.array([*known, UNLABELLED], dtype=np.int64)[index])

    def named(self, labels: pa.ChunkedArray) -> dict[str, pa.Array]:
        """The `label` and `true_class` of each row, as text."""
        coded = labels.combine_chunks()
        if not isinstance(coded, pa.DictionaryArray):
            coded = coded.dictionary_encode()
        texts: list[str | None] = coded.dictionary.to_pylist()
        names = [None if text is None else self.classes.class_of_label(text) for text in texts]
        return {
            "label": pa.array(texts, pa.string()).take(coded.indices),
            "true_class": pa.array(names, pa.string()).take(coded.indices),
        }

    @property
    def label_ids(self) -> Int64[np.ndarray, " rows"]:
        """Id of each row's label; `UNLABELLED` where it has none."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._codes])

    @property
    def extra_classes(self) -> tuple[str, ...]:
        """Classes of the part that training lacks."""
        names = {self.classes.class_of_label(label) for label in self.labels}
        return tuple(sorted(names - set(self.classes.classes)))

    @property
    def class_ids(self) -> Int64[np.ndarray, " rows"]:
        """Position of each row's class in `classes + extra_classes`; `UNLABELLED` where it has no label."""
        names = (*self.classes.classes, *self.extra_classes)
        of_label = [names.index(self.classes.class_of_label(label)) for label in self.labels]
        return np.array([*of_label, UNLABELLED], dtype=np.int64)[self.label_ids]


def evaluate_detector(
    detector: Detector,
    part: FlowSubset,
    predictions: Path | None,
    *,
    seed: int,
    num_resamples: int,
    train_hashes: UInt64[np.ndarray, " train"] | None = None,
    fit: TrafficFit | None = None,
) -> SplitMetrics:
    """Metrics of the detector on one part; every flow's verdict goes to `predictions` (Parquet).

    Args:
        train_hashes: `row_hashes` of the training flows, to report metrics on seen and unseen flows.
        fit: Collects values that training lacked.

    Raises:
        SchemaError: the part's file has no label column.
    """
    measure = partial(_measure, detector, part, seed=seed, num_resamples=num_resamples, fit=fit)
    if predictions is None:
        return measure(lambda _: None, train_hashes)
    predictions.parent.mkdir(parents=True, exist_ok=True)
    predictions.unlink(missing_ok=True)
    with open_writer(predictions) as writer:
        return measure(writer.write, train_hashes)


def evaluate_baseline(
    baseline: Baseline,
    classes: ClassMap,
    part: FlowSubset,
    *,
    seed: int,
    num_resamples: int,
    thresholds: FittedThresholds | None = None,
) -> SplitMetrics:
    """The same metrics for the baseline."""
    label = part.flows.require_label()
    truth = TrueClasses(classes)
    probabilities = [np.empty((0, len(classes.classes)))]
    for table in part.tables():
        probabilities.append(baseline.predict_proba(table))
        truth.add(table.column(label))
    joined = np.concatenate(probabilities)
    return split_metrics(truth, joined, seed=seed, num_resamples=num_resamples, thresholds=thresholds)


def evaluate_baseline_on(
    baseline: Baseline, classes: ClassMap, parts: Sequence[FlowSubset], *, seed: int, num_resamples: int
) -> dict[str, SplitMetrics]:
    """Metrics of the baseline on every part; thresholds are fitted on the first, as for the model."""
    metrics: dict[str, SplitMetrics] = {}
    thresholds = None
    for part in parts:
        metrics[part.name] = evaluate_baseline(
            baseline, classes, part, seed=seed, num_resamples=num_resamples, thresholds=thresholds
        )
        thresholds = thresholds or fitted_thresholds(part.name, metrics[part.name], classes)
    return metrics


def fitted_thresholds(split: str, metrics: SplitMetrics, classes: ClassMap) -> FittedThresholds | None:
    """The thresholds fitted on this split, to apply to others; None if there are none."""
    if not metrics.operating_points or classes.benign is None:
        return None
    num_benign = metrics.per_class[classes.benign].support
    limits = [
        Threshold(
            target_fpr=point.target_fpr,
            threshold=point.threshold,
            num_benign=num_benign,
            num_false_positives=round((point.fpr or 0) * num_benign),
            fpr_interval=point.fpr_interval or (0.0, 1.0),
        )
        for point in metrics.operating_points
    ]
    return FittedThresholds(split, tuple(limits))


def split_metrics(
    truth: TrueClasses,
    probabilities: Float[np.ndarray, "flows classes"],
    *,
    seed: int,
    num_resamples: int,
    is_seen: Bool[np.ndarray, " flows"] | None = None,
    thresholds: FittedThresholds | None = None,
    alert_scores: Float64[np.ndarray, " flows"] | None = None,
) -> SplitMetrics:
    """Metrics of any method's probabilities against the true classes; unlabelled flows are ignored.

    Clusters are the labels as in the file (attack names), if the schema maps them to classes.
    """
    class_ids = truth.class_ids
    labelled = class_ids != UNLABELLED
    clusters = None
    if truth.classes.label_map:
        # Benign flows share no attack name: each is resampled by itself.
        benign = truth.classes.benign
        is_benign = class_ids == (truth.classes.classes.index(benign) if benign else UNLABELLED)
        clusters = np.where(is_benign, ALONE, truth.label_ids)[labelled]
    return compute_metrics(
        class_ids[labelled],
        probabilities[labelled],
        truth.classes.classes,
        truth.classes.benign,
        extra_classes=truth.extra_classes,
        clusters=clusters,
        is_seen=None if is_seen is None else is_seen[labelled],
        thresholds=thresholds,
        alert_scores=None if alert_scores is None else alert_scores[labelled],
        seed=seed,
        num_resamples=num_resamples,
    )


def _measure(
    detector: Detector,
    part: FlowSubset,
    write: Callable[[pa.Table], None],
    train_hashes: UInt64[np.ndarray, " train"] | None,
    *,
    seed: int,
    num_resamples: int,
    fit: TrafficFit | None,
) -> SplitMetrics:
    label = part.flows.require_label()
    truth = TrueClasses(detector.artifact.classes)
    probabilities = [np.empty((0, len(detector.classes)))]
    hashes = [np.empty(0, dtype=np.uint64)]
    alert_scores = [np.empty(0)]
    errors = MistakenFlows(detector)
    blocks = part.blocks()
    # A part without rows still has one block, so that its predictions have their columns.
    first = next(blocks, (no_rows(part.flows), np.arange(0, dtype=np.int64)))
    for table, rows in chain([first], blocks):
        block = detector.encode(table)
        if fit is not None:
            fit.unseen.add(block)
        scores = detector.score(table, block)
        probabilities.append(scores.probabilities)
        hashes.append(scores.row_hashes)
        if scores.alert_score is not None:
            alert_scores.append(scores.alert_score)
        truth.add(table.column(label))
        verdicts = verdict_table(table, scores, detector.schema, rows)
        named = truth.named(table.column(label))
        errors.add(table, scores, rows, named["label"], named["true_class"])
        for name, texts in named.items():
            verdicts = verdicts.append_column(name, texts)
        write(verdicts)
    is_seen = None if train_hashes is None else np.isin(np.concatenate(hashes), train_hashes)
    operating = detector.artifact.operating_point
    metrics = split_metrics(
        truth,
        np.concatenate(probabilities),
        seed=seed,
        num_resamples=num_resamples,
        is_seen=is_seen,
        thresholds=FittedThresholds("valid", operating.thresholds)
        if operating and operating.thresholds
        else None,
        alert_scores=np.concatenate(alert_scores) if operating and operating.alert_score else None,
    )
    return replace(metrics, mistakes=errors.found())
