"""Several methods on the same flows: figures with their intervals, and tests of the differences.

A method is one way of making a detector (settings, or a baseline); it may have been trained with several seeds, and its
figures are then means over them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from wirebert.metrics.intervals import Interval
from wirebert.metrics.significance import (
    DifferenceInterval,
    LabelledRows,
    bootstrap_p_value,
    f1_of,
    holm,
    paired_metrics,
    percentile_interval,
    permutation_p_value,
    resample,
    seed_interval,
)
from wirebert.report.report import FileUsage

CLASS_F1 = "f1"
"""The figure that each class has of its own."""

ResamplingUnit = Literal["rows", "clusters", "seeds", "splits"]
RESAMPLING_UNITS: tuple[ResamplingUnit, ...] = ("clusters", "splits", "seeds", "rows")

FEWEST_SEEDS = 2
"""With fewer there is nothing to draw from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """What one method said about the flows, once per seed."""

    name: str
    predicted: Int64[np.ndarray, "seeds flows"]
    scores: Float64[np.ndarray, "seeds flows"] | None = None
    """Attack scores; None where there is no benign class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricEstimate:
    """One figure of one method."""

    value: float
    """Mean over seeds, or over splits."""
    std: float | None
    """Standard deviation over these; None for one seed."""
    intervals: Mapping[str, Interval]
    """Way of resampling -> 95 % interval; only the ways that there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far one method is above another in one figure."""

    first: str
    second: str
    figure: str
    value: float
    """First less second."""
    intervals: Mapping[str, DifferenceInterval]
    """Way of resampling -> interval and p-values; only the ways that there are."""
    class_name: str | None = None
    """Whose figure it is; None: of all classes together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassStandings:
    """F1 of one class by every method."""

    num_flows: int
    standings: Mapping[str, MetricEstimate]
    """Method -> standing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitComparison:
    """The methods on one split."""

    name: str
    num_flows: int
    num_clusters: int
    """0: rows have no clusters."""
    estimates: Mapping[str, Mapping[str, MetricEstimate]] = field(default_factory=dict)
    """Method -> figure -> standing."""
    differences: tuple[Difference, ...] = ()
    classes: Mapping[str, ClassStandings] = field(default_factory=dict)
    """Each class that has flows."""
    class_differences: tuple[Difference, ...] = ()
    """Of the same pairs, in the F1 of each class."""
    note: str = ""
    """Why there is no test, where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything that is said about some methods side by side."""

    title: str
    primary: str
    """The figure that was chosen to decide before any test file was opened."""
    splits: tuple[SplitComparison, ...]
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Method -> what is worth knowing of it (seeds, speed, memory): name in words -> value in words."""
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Dotted setting -> its value in each method of `facts`, where they differ."""
    files: Mapping[str, FileUsage] = field(default_factory=dict)
    """Split -> its content and how often it was opened."""
    notes: tuple[str, ...] = ()
    """What a reader has to know to read the figures rightly."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """One figure of every verdict, as it is and on each resample."""

    plain: Float64[np.ndarray, " verdicts"]
    ways: Mapping[str, Float64[np.ndarray, "verdicts resamples"]]


def compare_methods(
    name: str,
    judged: LabelledRows,
    contenders: Sequence[Predictions],
    tested: Sequence[str],
    *,
    classes: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] | None = None,
    seed: int = 1,
    num_resamples: int = 1000,
) -> SplitComparison:
    """Figures of every method, and the differences of `pairs` in the figures `tested`.

    Args:
        classes: Name of each class id, for the F1 of each class; empty: only figures of all classes together.
        pairs: Names of methods; None: the first method against each other one.
    """
    measured = _measure(judged, contenders, per_class=bool(classes), seed=seed, num_resamples=num_resamples)
    places = _places(contenders)
    if pairs is None:
        pairs = [(contenders[0].name, other.name) for other in contenders[1:]]
    counts = np.bincount(judged.true_ids, minlength=judged.num_labels).tolist()
    f1_of_class = {own: measured.pop(f1_of(label)) for label, own in enumerate(classes)}
    num_flows = {own: count for own, count in zip(classes, counts, strict=False) if count}
    return corrected(
        SplitComparison(
            name=name,
            num_flows=len(judged.true_ids),
            num_clusters=_num_clusters(judged),
            estimates={
                method: {figure: _estimate(values, place, seed) for figure, values in measured.items()}
                for method, place in places.items()
            },
            differences=tuple(
                _difference(pair, figure, measured[figure], places, seed)
                for pair in pairs
                for figure in tested
                if figure in measured
            ),
            classes={
                own: ClassStandings(
                    num_flows=count,
                    standings={
                        method: _estimate(f1_of_class[own], at, seed) for method, at in places.items()
                    },
                )
                for own, count in num_flows.items()
            },
            class_differences=tuple(
                _difference(pair, CLASS_F1, f1_of_class[own], places, seed, class_name=own)
                for own in num_flows
                for pair in pairs
            ),
        )
    )


def _measure(
    judged: LabelledRows, contenders: Sequence[Predictions], *, per_class: bool, seed: int, num_resamples: int
) -> dict[str, _Measured]:
    predicted = np.concatenate([contender.predicted for contender in contenders])
    given = [contender.scores for contender in contenders if contender.scores is not None]
    scores = np.concatenate(given) if len(given) == len(contenders) else None
    ways = {
        way: resample(
            judged,
            predicted,
            scores,
            by_cluster=by_cluster,
            seed=seed,
            num_resamples=num_resamples,
            per_class=per_class,
        )
        for way, by_cluster in (("clusters", True), ("rows", False))
        if judged.has_clusters or not by_cluster
    }
    return {
        figure: _Measured(values, {way: drawn[figure] for way, drawn in ways.items()})
        for figure, values in paired_metrics(judged, predicted, scores, per_class=per_class).items()
    }


def _difference(
    names: tuple[str, str],
    figure: str,
    measured: _Measured,
    places: Mapping[str, slice],
    seed: int,
    class_name: str | None = None,
) -> Difference:
    first, second = (places[name] for name in names)
    plain = measured.plain
    contrasts = {
        way: _bootstrap_interval(drawn[first], drawn[second]) for way, drawn in measured.ways.items()
    }
    return Difference(
        first=names[0],
        second=names[1],
        figure=figure,
        value=float(plain[first].mean() - plain[second].mean()),
        intervals=contrasts | _seed_interval(plain[first], plain[second], seed),
        class_name=class_name,
    )


def corrected(split: SplitComparison) -> SplitComparison:
    """The same with Holm's correction over all differences in one figure, each way of resampling by itself.

    One figure was named before the test was opened, and each split is a question of its own. A wider family would ask for
    p-values that five seeds each (252 ways to swap them) can not give. The F1 of all classes is one family: whoever looks at
    each of them looks for the one that differs.
    """
    return replace(
        split, differences=_holm(split.differences), class_differences=_holm(split.class_differences)
    )


def _holm(given: Sequence[Difference]) -> tuple[Difference, ...]:
    differences = list(given)
    for figure in dict.fromkeys(difference.figure for difference in differences):
        for way in RESAMPLING_UNITS:
            places = [
                at for at, own in enumerate(differences) if own.figure == figure and way in own.intervals
            ]
            for at, p in zip(places, holm([differences[at].intervals[way].p for at in places]), strict=True):
                ways = {**differences[at].intervals, way: replace(differences[at].intervals[way], p_holm=p)}
                differences[at] = replace(differences[at], intervals=ways)
    return tuple(differences)


def _places(contenders: Sequence[Predictions]) -> dict[str, slice]:
    ends = np.cumsum([len(contender.predicted) for contender in contenders]).tolist()
    return {
        contender.name: slice(start, end)
        for contender, start, end in zip(contenders, [0, *ends[:-1]], ends, strict=True)
    }


def _estimate(measured: _Measured, place: slice, seed: int) -> MetricEstimate:
    values = measured.plain[place]
    intervals = {way: percentile_interval(drawn[place].mean(axis=0)) for way, drawn in measured.ways.items()}
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


def _num_clusters(judged: LabelledRows) -> int:
    if judged.clusters is None or not judged.has_clusters:
        return 0
    return len(np.unique(judged.clusters[judged.clusters >= 0]))
