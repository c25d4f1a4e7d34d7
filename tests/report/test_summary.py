from dataclasses import replace

import numpy as np
import pytest

from wirebert.metrics.split_metrics import SplitMetrics, compute_metrics
from wirebert.report.report import Baseline, Report
from wirebert.report.summary import caveats, compare_with_baseline, summarize


def judged(share_right: float, num_flows: int = 1000) -> SplitMetrics:
    ids = np.arange(num_flows) % 2
    told = np.where(np.arange(num_flows) // 2 < share_right * num_flows / 2, ids, 1 - ids)
    return compute_metrics(ids, np.eye(2)[told], ("normal", "dos"), "normal", num_resamples=50)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [(0.9, 0.5, "is higher"), (0.5, 0.9, "is lower"), (0.9, 0.901, "the intervals overlap")],
)
def test_the_summary_compares_intervals_not_values(
    ours: float, theirs: float, words: str, report: Report
) -> None:
    rival = Baseline(summary={}, splits={"test": judged(theirs)})
    sentences = summarize(replace(report, splits={"test": judged(ours)}, baselines={"gbdt": rival}))
    assert words in sentences[1]


def test_the_summary_names_unknown_classes_and_the_majority_rate(report: Report) -> None:
    text = " ".join(summarize(report))
    assert "On test" in text
    assert "always predicting the largest class" in text
    assert "do not occur in training" in text


def test_rare_classes_are_marked(report: Report) -> None:
    assert "unreliable: normal, dos" in " ".join(summarize(replace(report, splits={"t": judged(0.9, 40)})))


def test_nothing_evaluated_gives_no_summary(report: Report) -> None:
    assert summarize(replace(report, splits={})) == []


def test_touching_intervals_are_level() -> None:
    assert compare_with_baseline((0.1, 0.2), (0.2, 0.3)) == "level"
    assert compare_with_baseline((0.1, 0.2), (0.21, 0.3)) == "below"
    assert (
        compare_with_baseline((0.15, 0.3), (0.1, 0.2)) == "level"
    )  # higher at both ends, and yet not outside


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
