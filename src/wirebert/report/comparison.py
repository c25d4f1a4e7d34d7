"""Several methods on the same flows: metrics with their intervals, and tests of the differences.

A method is a set of settings or a baseline. It may have been trained with several seeds; its metrics are then
means over them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from wirebert.metrics.intervals import Interval, percentile_interval
from wirebert.metrics.significance import (
    DifferenceInterval,
    LabelledRows,
    bootstrap_p_value,
    f1_of,
    holm,
    paired_metrics,
    permutation_p_value,
    resample,
    seed_interval,
)
from wirebert.report.report import FileUsage
from wirebert.shapes import Float64, Int64

CLASS_F1 = "f1"
"""The metric of each single class."""

ResamplingUnit = Literal["rows", "clusters", "seeds", "splits"]
RESAMPLING_UNITS: tuple[ResamplingUnit, ...] = ("clusters", "splits", "seeds", "rows")

FEWEST_SEEDS = 2
"""With fewer seeds there is nothing to resample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """The predictions of one method, once per seed."""

    name: str
    predicted: Int64[np.ndarray, "seeds flows"]
    scores: Float64[np.ndarray, "seeds flows"] | None = None
    """Attack scores; None without a benign class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricEstimate:
    """One metric of one method."""

    value: float
    """Mean over seeds, or over splits."""
    std: float | None
    """Standard deviation over these; None for one seed."""
    intervals: Mapping[str, Interval]
    """Resampling unit -> 95 % interval, for the units that are available."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Difference of two methods in one metric."""

    first: str
    second: str
    metric: str
    value: float
    """First minus second."""
    intervals: Mapping[str, DifferenceInterval]
    """Resampling unit -> interval and p-values, for the units that are available."""
    class_name: str | None = None
    """The class that the metric is of; None: all classes together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassEstimates:
    """F1 of one class for every method."""

    num_flows: int
    estimates: Mapping[str, MetricEstimate]
    """Method -> F1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitComparison:
    """The methods on one split."""

    name: str
    num_flows: int
    num_clusters: int
    """0: rows have no clusters."""
    estimates: Mapping[str, Mapping[str, MetricEstimate]] = field(default_factory=dict)
    """Method -> metric -> estimate."""
    differences: tuple[Difference, ...] = ()
    classes: Mapping[str, ClassEstimates] = field(default_factory=dict)
    """Each class with flows."""
    class_differences: tuple[Difference, ...] = ()
    """Differences of the same pairs in the F1 of each class."""
    note: str = ""
    """Why there is no test, if there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A comparison of several methods."""

    title: str
    primary: str
    """The metric that decides, chosen before any test file was opened."""
    splits: tuple[SplitComparison, ...]
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Method -> its facts (seeds, speed, memory): name in words -> value in words."""
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Dotted setting -> its value in each method of `facts`, for the settings that differ."""
    files: Mapping[str, FileUsage] = field(default_factory=dict)
    """Split -> its file content and how often it was used."""
    notes: tuple[str, ...] = ()
    """Notes on how to read the metrics."""


@dataclass(frozen=True, slots=True)
class _ResampledMetric:
    """One metric of every row of predictions, as measured and on each resample."""

    plain: Float64[np.ndarray, " verdicts"]
    ways: Mapping[str, Float64[np.ndarray, "verdicts resamples"]]


def compare_methods(
    name: str,
    labelled: LabelledRows,
    methods: Sequence[Predictions],
    tested: Sequence[str],
    *,
    classes: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] | None = None,
    seed: int = 1,
    num_resamples: int = 1000,
) -> SplitComparison:
    """Metrics of every method, and the differences of `pairs` in the metrics `tested`.

    Args:
        classes: Name of each class id, for the F1 of each class; empty: only metrics of all classes together.
        pairs: Names of methods; None: the first method against each other one.
    """
    measured = _measure(labelled, methods, per_class=bool(classes), seed=seed, num_resamples=num_resamples)
    slices = _slices(methods)
    if pairs is None:
        pairs = [(methods[0].name, other.name) for other in methods[1:]]
    counts = np.bincount(labelled.true_ids, minlength=labelled.num_labels).tolist()
    f1_of_class = {label: measured.pop(f1_of(index)) for index, label in enumerate(classes)}
    num_flows = {label: count for label, count in zip(classes, counts, strict=False) if count}
    return apply_holm(
        SplitComparison(
            name=name,
            num_flows=len(labelled.true_ids),
            num_clusters=_num_clusters(labelled),
            estimates={
                method: {figure: _estimate(values, rows, seed) for figure, values in measured.items()}
                for method, rows in slices.items()
            },
            differences=tuple(
                _difference(pair, figure, measured[figure], slices, seed)
                for pair in pairs
                for figure in tested
                if figure in measured
            ),
            classes={
                label: ClassEstimates(
                    num_flows=count,
                    estimates={
                        method: _estimate(f1_of_class[label], rows, seed) for method, rows in slices.items()
                    },
                )
                for label, count in num_flows.items()
            },
            class_differences=tuple(
                _difference(pair, CLASS_F1, f1_of_class[label], slices, seed, class_name=label)
                for label in num_flows
                for pair in pairs
            ),
        )
    )


def _measure(
    labelled: LabelledRows, methods: Sequence[Predictions], *, per_class: bool, seed: int, num_resamples: int
) -> dict[str, _ResampledMetric]:
    predicted = np.concatenate([method.predicted for method in methods])
    given = [method.scores for method in methods if method.scores is not None]
    scores = np.concatenate(given) if len(given) == len(methods) else None
    ways = {
        way: resample(
            labelled,
            predicted,
            scores,
            by_cluster=by_cluster,
            seed=seed,
            num_resamples=num_resamples,
            per_class=per_class,
        )
        for way, by_cluster in (("clusters", True), ("rows", False))
        if labelled.has_clusters or not by_cluster
    }
    return {
        figure: _ResampledMetric(values, {way: drawn[figure] for way, drawn in ways.items()})
        for figure, values in paired_metrics(labelled, predicted, scores, per_class=per_class).items()
    }


def _difference(
    names: tuple[str, str],
    figure: str,
    measured: _ResampledMetric,
    slices: Mapping[str, slice],
    seed: int,
    class_name: str | None = None,
) -> Difference:
    first, second = (slices[name] for name in names)
    plain = measured.plain
    intervals = {
        way: _bootstrap_interval(drawn[first], drawn[second]) for way, drawn in measured.ways.items()
    }
    return Difference(
        first=names[0],
        second=names[1],
        metric=figure,
        value=float(plain[first].mean() - plain[second].mean()),
        intervals=intervals | _seed_interval(plain[first], plain[second], seed),
        class_name=class_name,
    )


def apply_holm(split: SplitComparison) -> SplitComparison:
    """The same with Holm's correction over all differences in one metric, for each resampling unit
    separately.

    The primary metric is chosen before the test file is opened, and each split is a separate question. A
    wider family would need p-values that five seeds each (252 permutations) cannot reach. The F1 of all
    classes is one family, since a reader of that table looks for the class that differs.
    """
    return replace(
        split, differences=_holm(split.differences), class_differences=_holm(split.class_differences)
    )


def _holm(given: Sequence[Difference]) -> tuple[Difference, ...]:
    differences = list(given)
    for figure in dict.fromkeys(difference.metric for difference in differences):
        for way in RESAMPLING_UNITS:
            family = [
                index
                for index, own in enumerate(differences)
                if own.metric == figure and way in own.intervals
            ]
            adjusted = holm([differences[index].intervals[way].p for index in family])
            for index, p in zip(family, adjusted, strict=True):
                intervals = differences[index].intervals
                corrected = {**intervals, way: replace(intervals[way], p_holm=p)}
                differences[index] = replace(differences[index], intervals=corrected)
    return tuple(differences)


def _slices(methods: Sequence[Predictions]) -> dict[str, slice]:
    ends = np.cumsum([len(method.predicted) for method in methods]).tolist()
    return {
        method.name: slice(start, end)
        for method, start, end in zip(methods, [0, *ends[:-1]], ends, strict=True)
    }


def _estimate(metric: _ResampledMetric, rows: slice, seed: int) -> MetricEstimate:
    values = metric.plain[rows]
    intervals = {way: percentile_interval(drawn[rows].mean(axis=0)) for way, drawn in metric.ways.items()}
    has_seeds = len(values) >= FEWEST_SEEDS
    if has_seeds:
        intervals["seeds"] = seed_interval(values, seed=seed)
    return MetricEstimate(
        value=float(values.mean()), std=float(values.std(ddof=1)) if has_seeds else None, intervals=intervals
    )


def _bootstrap_interval(
    first: Float64[np.ndarray, "seeds resamples"], second: Float64[np.ndarray, "others resamples"]
) -> DifferenceInterval:
    differences = first.mean(axis=0) - second.mean(axis=0)
    p = bootstrap_p_value(differences)
    return DifferenceInterval(percentile_interval(differences), p, p)


def _seed_interval(
    first: Float64[np.ndarray, " seeds"], second: Float64[np.ndarray, " others"], seed: int
) -> dict[str, DifferenceInterval]:
    if min(len(first), len(second)) < FEWEST_SEEDS:
        return {}
    p = permutation_p_value(first, second, seed=seed)
    return {"seeds": DifferenceInterval(seed_interval(first, second, seed=seed), p, p)}


def _num_clusters(labelled: LabelledRows) -> int:
    if labelled.clusters is None or not labelled.has_clusters:
        return 0
    return len(np.unique(labelled.clusters[labelled.clusters >= 0]))
