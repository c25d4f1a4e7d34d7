"""Evaluate a saved detector on labelled files: save its verdicts and compute metrics from them.

The artifact is loaded from its folder and evaluated as deployed, not the model in memory.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa

from wirebert.baselines.protocol import Baseline
from wirebert.data.flows import FlowSubset
from wirebert.data.labels import DROPPED, UNLABELLED, ClassMap
from wirebert.evaluation.incidents import LabelledIncidents
from wirebert.evaluation.mistakes import MistakenFlows
from wirebert.evaluation.predictions_file import as_labelled_rows, positions, read_predictions
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector, Scores
from wirebert.inference.predictions import no_rows, open_writer
from wirebert.inference.verdicts import verdict_table
from wirebert.metrics.intervals import ALONE, Interval
from wirebert.metrics.split_metrics import FittedThresholds, SplitMetrics, compute_metrics
from wirebert.metrics.student_gap import split_gap
from wirebert.metrics.thresholds import MIN_EXPECTED_FALSE_POSITIVES, Threshold
from wirebert.shapes import Bool, Float, Float64, Int64, UInt64


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
                UNLABELLED
                if text is None or self.classes.class_of_label(text) == DROPPED
                else self.labels.setdefault(text, len(self.labels))
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
        names = [None if text is None else self.classes.class_of_label(text) or None for text in texts]
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
    classes: ClassMap | None = None,
    fit: TrafficFit | None = None,
) -> SplitMetrics:
    """Metrics of the detector on one part; every flow's verdict goes to `predictions` (Parquet).

    Args:
        classes: The classes of the part's labels; None: those of the model.
        train_hashes: `row_hashes` of the training flows, to report metrics on seen and unseen flows.
        fit: Collects values that training lacked.

    Raises:
        SchemaError: the part's file has no label column.
    """
    scored = score_and_write(detector, part, predictions, classes or detector.artifact.classes, fit)
    return scored.metrics(detector, seed=seed, num_resamples=num_resamples, train_hashes=train_hashes)


def evaluate_baseline(
    baseline: Baseline,
    classes: ClassMap,
    part: FlowSubset,
    *,
    seed: int,
    num_resamples: int,
    thresholds: FittedThresholds | None = None,
    part_classes: ClassMap | None = None,
) -> tuple[SplitMetrics, Int64[np.ndarray, " labelled"]]:
    """The same metrics for the baseline, and its class of each labelled row.

    Args:
        classes: The classes that the baseline was fitted on.
        part_classes: The classes of the part's labels, if others.
    """
    label = part.flows.require_label()
    truth = TrueClasses(part_classes or classes)
    probabilities = [np.empty((0, len(classes.classes)))]
    for table in part.tables():
        probabilities.append(baseline.predict_proba(table))
        truth.add(table.column(label))
    joined = np.concatenate(probabilities)
    if part_classes is not None:
        joined = merged_classes(joined, classes.classes, part_classes)
    metrics = split_metrics(truth, joined, seed=seed, num_resamples=num_resamples, thresholds=thresholds)
    return metrics, joined.argmax(axis=1)[truth.class_ids != UNLABELLED].astype(np.int64)


def evaluate_baseline_on(
    baseline: Baseline,
    classes: ClassMap,
    parts: Iterable[FlowSubset],
    predictions: Callable[[str], Path],
    *,
    seed: int,
    num_resamples: int,
    part_classes: Mapping[str, ClassMap] | None = None,
) -> tuple[dict[str, SplitMetrics], dict[str, dict[str, Interval]]]:
    """Metrics of the baseline on every part; thresholds are fitted on the first, as for the model.

    Also the interval of each headline metric of the model minus that of the baseline, on the same rows.

    Args:
        predictions: The predictions file of the model for a part.
        part_classes: The classes of a part's labels, if others than `classes`: it has no differences.
    """
    metrics: dict[str, SplitMetrics] = {}
    differences: dict[str, dict[str, Interval]] = {}
    thresholds = None
    for part in parts:
        metrics[part.name], predicted = evaluate_baseline(
            *(baseline, classes, part),
            seed=seed,
            num_resamples=num_resamples,
            thresholds=thresholds,
            part_classes=(part_classes or {}).get(part.name),
        )
        if part.name in (part_classes or {}):
            continue
        ours = read_predictions(predictions(part.name))
        names = sorted({*ours.true, *ours.names, *classes.classes})
        gap = split_gap(
            as_labelled_rows(ours, names, classes.benign),
            positions(ours.names, names)[ours.predicted],
            positions(classes.classes, names)[predicted],
            seed=seed,
            num_resamples=num_resamples,
        )
        differences[part.name] = {key: own.rows for key, own in gap.metrics.items() if own.rows is not None}
        thresholds = thresholds or fitted_thresholds(part.name, metrics[part.name], classes)
    return metrics, differences


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
            num_distinct=num_benign,
            is_trusted=num_benign * point.target_fpr >= MIN_EXPECTED_FALSE_POSITIVES,
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
    if truth.classes.groups_labels:
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


def merged_classes(
    probabilities: Float[np.ndarray, "flows classes"], names: Sequence[str], classes: ClassMap
) -> Float64[np.ndarray, "flows merged"]:
    """Probabilities of fewer classes: each of those named is one of `classes`, or part of one.

    >>> benign_or_not = ClassMap(classes=("ok", "attack"), label_map={"ok": "ok", "*": "attack"})
    >>> merged_classes(np.array([[0.5, 0.25, 0.25]]), ("ok", "dos", "scan"), benign_or_not)
    array([[0.5, 0.5]])
    """
    of_class = [classes.classes.index(classes.class_of_label(name)) for name in names]
    return probabilities.astype(np.float64) @ np.eye(len(classes.classes))[of_class]


@final
class ScoredRows:
    """What metrics need of the rows of a part, block by block."""

    def __init__(self, classes: ClassMap) -> None:
        self.truth = TrueClasses(classes)
        self._probabilities: list[Float[np.ndarray, "rows classes"]] = []
        self._hashes = [np.empty(0, dtype=np.uint64)]
        self._alert_scores: list[Float[np.ndarray, " rows"]] = [np.empty(0)]
        self.mistakes, self._incidents = MistakenFlows(), LabelledIncidents(classes.benign)

    def add(
        self,
        table: pa.Table,
        scores: Scores,
        rows: Int64[np.ndarray, " rows"],
        verdicts: pa.Table,
        label: str,
    ) -> pa.Table:
        """Add scored rows. Returns their verdicts with the true classes."""
        self.truth.add(table.column(label))
        self._probabilities.append(scores.probabilities)
        self._hashes.append(scores.row_hashes)
        if scores.alert_score is not None:
            self._alert_scores.append(scores.alert_score)
        named = self.truth.named(table.column(label))
        if self.truth.classes.classes == scores.classes:
            self.mistakes.add(table, scores, rows, named["label"], named["true_class"])
        for name, texts in named.items():
            verdicts = verdicts.append_column(name, texts)
        self._incidents.add(verdicts)
        return verdicts

    def add_written(self, verdicts: pa.Table, names: Sequence[str]) -> None:
        """Add rows by what `add` returned, without their mistakes; `names` are the classes of the model."""
        self.truth.add(verdicts.column("label"))
        self._probabilities.append(
            np.stack([verdicts.column(f"p_{name}").to_numpy() for name in names], axis=1)
        )
        scores = [name for name in ("alert_score", "attack_score") if name in verdicts.column_names]
        self._alert_scores += [verdicts.column(name).to_numpy() for name in scores[:1]]
        self._incidents.add(verdicts)

    def metrics(
        self,
        detector: Detector,
        *,
        seed: int,
        num_resamples: int,
        train_hashes: UInt64[np.ndarray, " train"] | None = None,
    ) -> SplitMetrics:
        """The metrics of the detector on these rows."""
        classes, operating = self.truth.classes, detector.artifact.operating_point
        is_seen = None if train_hashes is None else np.isin(np.concatenate(self._hashes), train_hashes)
        joined = np.concatenate([np.empty((0, len(detector.classes))), *self._probabilities])
        if classes.classes != detector.classes:
            joined = merged_classes(joined, detector.classes, classes)
        found = split_metrics(
            self.truth,
            joined,
            seed=seed,
            num_resamples=num_resamples,
            is_seen=is_seen,
            thresholds=FittedThresholds("valid", operating.thresholds, operating.deployed)
            if operating and operating.deployed
            else None,
            alert_scores=np.concatenate(self._alert_scores) if operating and operating.alert_score else None,
        )
        return replace(found, mistakes=self.mistakes.found(detector), incidents=self._incidents.metrics())


def score_and_write(
    detector: Detector,
    part: FlowSubset,
    predictions: Path | None,
    classes: ClassMap,
    fit: TrafficFit | None = None,
) -> ScoredRows:
    """`score_part` of a whole file; every flow's verdict goes to `predictions` (Parquet)."""
    if predictions is None:
        return score_part(detector, part, classes, lambda _: None, fit=fit)
    predictions.parent.mkdir(parents=True, exist_ok=True)
    predictions.unlink(missing_ok=True)
    with open_writer(predictions) as writer:
        return score_part(detector, part, classes, writer.write, fit=fit)


def score_part(
    detector: Detector,
    part: FlowSubset,
    classes: ClassMap,
    write: Callable[[pa.Table], None],
    *,
    fit: TrafficFit | None = None,
    first_row: int = 0,
) -> ScoredRows:
    """Score a part, whose first flow is row `first_row` of its log, and write its verdicts.

    Args:
        classes: The classes of the part's labels.
    """
    label, scored = part.flows.require_label(), ScoredRows(classes)
    blocks = part.blocks()
    codes = () if fit is None else fit.codes
    # A part without rows still has one block, so that its predictions have their columns.
    first = next(blocks, (no_rows(part.flows), np.arange(0, dtype=np.int64)))
    for table, rows in chain([first], blocks):
        block = detector.encode(table)
        if fit is not None:
            fit.add(table, block)
        scores = detector.score(table, block)
        rows = rows + first_row
        verdicts = verdict_table(
            table, scores, detector.schema, rows, codes=codes, seed=detector.community_id_seed
        )
        write(scored.add(table, scores, rows, verdicts, label))
    return scored
