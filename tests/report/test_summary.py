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
    [(0.9, 0.5, "it is above"), (0.5, 0.9, "it is below"), (0.9, 0.901, "the intervals overlap")],
)
def test_the_verdict_is_about_intervals_not_points(
    ours: float, theirs: float, words: str, report: Report
) -> None:
    rival = Baseline(summary={}, splits={"test": judged(theirs)})
    sentences = summarize(replace(report, splits={"test": judged(ours)}, baseline={"boosted trees": rival}))
    assert words in sentences[1]


def test_the_verdict_names_what_to_be_wary_of(report: Report) -> None:
    text = " ".join(summarize(report))
    assert "On test" in text
    assert "always guessing the largest class" in text
    assert "classes that training lacks" in text


def test_rare_classes_are_marked(report: Report) -> None:
    assert "take their figures lightly: normal, dos" in " ".join(
        summarize(replace(report, splits={"t": judged(0.9, 40)}))
    )


def test_nothing_evaluated_gives_no_verdict(report: Report) -> None:
    assert summarize(replace(report, splits={})) == []


def test_touching_intervals_are_level() -> None:
    assert compare_with_baseline((0.1, 0.2), (0.2, 0.3)) == "level"
    assert compare_with_baseline((0.1, 0.2), (0.21, 0.3)) == "below"
    assert (
        compare_with_baseline((0.15, 0.3), (0.1, 0.2)) == "level"
    )  # higher at both ends, and yet not outside


@pytest.mark.parametrize(
    ("said", "words"), [(0.99, "too sure"), (0.9, "about right"), (0.8, "not sure enough")]
)
def test_how_sure_it_is_stands_beside_how_often_it_is_right(said: float, words: str, report: Report) -> None:
    ids = np.arange(1000) % 2
    told = np.where(np.arange(1000) < 900, ids, 1 - ids)
    metrics = compute_metrics(ids, np.where(np.eye(2)[told] > 0, said, 1 - said), ("normal", "dos"), "normal")
    text = " ".join(caveats(replace(report, splits={"t": metrics})))
    assert f"verdicts {said:.1%} on average, and 90.0% of them are right: {words}." in text


def test_false_alerts_are_told_for_traffic_with_few_attacks(report: Report) -> None:
    point = replace(report.splits["test"].operating_points[0], precision_at_prevalence={"0.001": 0.25})
    metrics = replace(report.splits["test"], operating_points=(point,))
    assert "75% of its alerts would be false" in " ".join(caveats(replace(report, splits={"t": metrics})))
