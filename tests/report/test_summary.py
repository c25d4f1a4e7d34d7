from dataclasses import replace

import numpy as np
import pytest

from wirebert.metrics.split_metrics import FittedThresholds, SplitMetrics, compute_metrics
from wirebert.metrics.thresholds import fit_threshold
from wirebert.report.report import Baseline, Report
from wirebert.report.summary import caveats, summarize


def judged(share_right: float, num_flows: int = 1000) -> SplitMetrics:
    ids = np.arange(num_flows) % 2
    told = np.where(np.arange(num_flows) // 2 < share_right * num_flows / 2, ids, 1 - ids)
    return compute_metrics(ids, np.eye(2)[told], ("normal", "dos"), "normal", num_resamples=50)


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ((0.01, 0.2), "is higher"),
        ((-0.2, -0.01), "is lower"),
        ((-0.1, 0.1), "No significant difference"),
        ((0.0, 0.1), "No significant difference"),
    ],
)
def test_the_summary_goes_by_the_interval_of_the_difference(
    difference: tuple[float, float], words: str, report: Report
) -> None:
    baseline = Baseline(
        summary={}, splits={"test": judged(0.5)}, differences={"test": {"macro_f1": difference}}
    )
    text = " ".join(summarize(replace(report, splits={"test": judged(0.9)}, baselines={"gbdt": baseline})))
    assert words in text
    assert "paired bootstrap" in text


def at_stored_threshold(num_false: int) -> SplitMetrics:
    """Metrics of 1,000 benign flows and 10 attacks at a stored threshold of 0.5 for a rate of 1 %."""
    ids = np.repeat([0, 1], [1000, 10])
    scores = np.where((np.arange(1010) < num_false) | (ids == 1), 0.9, 0.1)
    stored = fit_threshold(np.full(1600, 0.5), np.zeros(1600, bool), 0.01)
    return compute_metrics(
        ids,
        np.stack([1 - scores, scores], axis=1),
        ("normal", "dos"),
        "normal",
        thresholds=FittedThresholds("valid", (stored,), stored),
        num_resamples=20,
    )


@pytest.mark.parametrize(
    ("num_false", "words"),
    [
        (53, "an alert on 5.30 % of the benign flows (95 % CI 4.07 % to 6.87 %: off the target of 1 %)"),
        (10, "an alert on 1.00 % of the benign flows (95 % CI 0.54 % to 1.83 %: the target of 1 % is inside"),
    ],
)
def test_the_verdict_is_at_the_stored_threshold(num_false: int, words: str, report: Report) -> None:
    stored = replace(report, splits={"test": at_stored_threshold(num_false)}, baselines={})
    first, *_ = summarize(stored)
    assert words in first
    assert "detects 100.0 % of the attacks" in first
    assert "wirebert calibrate" in caveats(stored)[0]


def test_the_summary_names_unknown_classes_and_the_majority_rate(report: Report) -> None:
    text = " ".join(summarize(report))
    assert "On test" in text
    assert "always predicting the largest class" in text
    assert "that training lacks" in text


def test_rare_classes_are_marked(report: Report) -> None:
    assert "unreliable: normal, dos" in " ".join(summarize(replace(report, splits={"t": judged(0.9, 40)})))


def test_nothing_evaluated_gives_no_summary(report: Report) -> None:
    assert summarize(replace(report, splits={})) == []


@pytest.mark.parametrize(
    ("said", "words"), [(0.99, "Overconfident"), (0.9, "Well calibrated"), (0.8, "Underconfident")]
)
def test_mean_confidence_is_compared_with_accuracy(said: float, words: str, report: Report) -> None:
    ids = np.arange(1000) % 2
    told = np.where(np.arange(1000) < 900, ids, 1 - ids)
    metrics = compute_metrics(ids, np.where(np.eye(2)[told] > 0, said, 1 - said), ("normal", "dos"), "normal")
    text = " ".join(caveats(replace(report, splits={"t": metrics})))
    assert f"{words}: mean confidence {100 * said:.1f} %, accuracy 90.0 %" in text


def test_false_positives_are_estimated_for_traffic_with_few_attacks(report: Report) -> None:
    point = replace(report.splits["test"].operating_points[0], precision_at_prevalence={"0.001": 0.25})
    metrics = replace(report.splits["test"], operating_points=(point,))
    assert "75 % of the alerts would be false" in " ".join(caveats(replace(report, splits={"t": metrics})))
