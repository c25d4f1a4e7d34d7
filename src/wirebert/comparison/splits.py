"""`wirebert compare` on several splits of one file: a comparison per split, choices included, and their mean.

Splits share most of their training rows, and test rows too, so their metrics vary less than metrics on new
data would. The variance is enlarged to correct for that.

Source: Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003, section 3 (the
corrected resampled t-test).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.stats import t as student

from wirebert.cluster.ray_executor import RayCluster
from wirebert.comparison.compare import run_comparison, write_results
from wirebert.config import RunConfig
from wirebert.console import say
from wirebert.errors import ConfigError
from wirebert.metrics.intervals import Interval
from wirebert.metrics.registry import METRICS
from wirebert.metrics.significance import DifferenceInterval
from wirebert.report.comparison import (
    ClassEstimates,
    Comparison,
    Difference,
    MetricEstimate,
    SplitComparison,
    apply_holm,
)
from wirebert.shapes import Float64


def over_splits(splits: Sequence[SplitComparison], test_share: float) -> SplitComparison:
    """The mean over at least two splits of each metric that all of them have, and of each difference.

    Args:
        test_share: Fraction of the rows in each test split.
    """
    first = splits[0]
    standings: dict[str, dict[str, MetricEstimate]] = {}
    for method, metrics in first.estimates.items():
        for metric in metrics:
            if all(metric in split.estimates.get(method, {}) for split in splits):
                values = [split.estimates[method][metric].value for split in splits]
                standings.setdefault(method, {})[metric] = _standing(values, test_share)
    classes: dict[str, ClassEstimates] = {}
    for name, class_estimates in first.classes.items():
        if all(name in split.classes for split in splits):
            classes[name] = ClassEstimates(
                num_flows=round(float(np.mean([split.classes[name].num_flows for split in splits]))),
                estimates={
                    method: _standing(
                        [split.classes[name].estimates[method].value for split in splits], test_share
                    )
                    for method in class_estimates.estimates
                },
            )
    return apply_holm(
        SplitComparison(
            name=f"{first.name}, {len(splits)} splits",
            num_flows=round(float(np.mean([split.num_flows for split in splits]))),
            num_clusters=0,
            estimates=standings,
            differences=_differences([split.differences for split in splits], test_share),
            classes=classes,
            class_differences=_differences([split.class_differences for split in splits], test_share),
        )
    )


def _standing(values: Sequence[float], test_share: float) -> MetricEstimate:
    drawn = np.array(values)
    return MetricEstimate(
        value=float(drawn.mean()),
        std=float(drawn.std(ddof=1)),
        intervals={"splits": corrected_interval(drawn, test_share).interval},
    )


def _differences(splits: Sequence[Sequence[Difference]], test_share: float) -> tuple[Difference, ...]:
    """The mean of each difference that all splits have."""
    gaps = [
        {(one.first, one.second, one.metric, one.class_name): one.value for one in split} for split in splits
    ]
    differences: list[Difference] = []
    for key in gaps[0]:
        if all(key in own for own in gaps):
            values = np.array([own[key] for own in gaps])
            first, second, metric, class_name = key
            differences.append(
                Difference(
                    first=first,
                    second=second,
                    metric=metric,
                    value=float(values.mean()),
                    intervals={"splits": corrected_interval(values, test_share)},
                    class_name=class_name,
                )
            )
    return tuple(differences)


def corrected_interval(values: Float64[np.ndarray, " splits"], test_share: float) -> DifferenceInterval:
    """95 % CI of the mean of one value per split, and p-value of mean 0, from Student's t distribution.

    >>> corrected_interval(np.array([0.01, 0.03]), 0.5).p  # t = 1.15, one degree of freedom
    0.454...
    """
    if np.ptp(values) == 0:
        value = float(values[0])
        p = float(value == 0)
        return DifferenceInterval((value, value), p, p)
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    error = float(np.sqrt((1 / len(values) + test_share / (1 - test_share)) * variance))
    freedom = len(values) - 1
    reach = float(student.ppf(0.975, freedom)) * error
    interval: Interval = (mean - reach, mean + reach)
    p = float(2 * student.sf(abs(mean) / error, freedom))
    return DifferenceInterval(interval, p, p)


def compare_on_splits(
    run: RunConfig,
    out: Path,
    recipe_text: str,
    workers: int | RayCluster,
    console: Console,
    *,
    minutes: float | None = None,
) -> Comparison:
    """`compare.run_comparison` on each of `comparison.num_splits` splits, each in its folder, and their mean.

    `minutes` is for the trials of all splits together.

    Raises:
        ConfigError: there is a separate test file, which does not depend on the split.
    """
    if run.test or not run.data.test_fraction:
        raise ConfigError(
            "comparison.num_splits must be 1 with separate test files, got "
            f"{run.comparison.num_splits}; set data.test_fraction instead of --test"
        )
    first = run.seed if run.data.split_seed is None else run.data.split_seed
    alone = replace(run.comparison, num_splits=1)
    comparisons: dict[int, Comparison] = {}
    for split_seed in range(first, first + run.comparison.num_splits):
        one = replace(run, comparison=alone, data=replace(run.data, split_seed=split_seed))
        say(console, f"split {split_seed}")
        comparisons[split_seed] = run_comparison(
            *(one, out / f"split-{split_seed}", recipe_text, (), workers, console),
            minutes=None if minutes is None else minutes / run.comparison.num_splits,
        )
    comparison = _joined(comparisons, run)
    write_results(comparison, out)
    return comparison


def _joined(comparisons: dict[int, Comparison], run: RunConfig) -> Comparison:
    primary = run.evaluation.primary_metric
    by_name = [{split.name: split for split in comparison.splits} for comparison in comparisons.values()]
    # A second class map does not apply to a split whose test rows have none of its labels.
    splits = tuple(
        over_splits([named[name] for named in by_name], run.data.test_fraction)
        for name in by_name[0]
        if all(name in named for named in by_name)
    )
    first_estimates = {seed: comparison.splits[0].estimates for seed, comparison in comparisons.items()}
    facts = {
        method: {
            f"{METRICS[primary].title} on split {split_seed}": f"{estimates[method][primary].value:.3f}"
            for split_seed, estimates in first_estimates.items()
        }
        for method in splits[0].estimates
    }
    return Comparison(
        title=f"{len(comparisons)} splits of {Path(run.train).name}",
        primary=primary,
        splits=splits,
        facts=facts,
        notes=(
            "Each split is a separate comparison, choices included (split-N/compare.html).",
            "Splits of one file share most of their rows: intervals and p-values are those of Nadeau and "
            "Bengio's corrected resampled t-test.",
        ),
    )
