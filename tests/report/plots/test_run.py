from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from wirebert.metrics.split_metrics import compute_metrics
from wirebert.report.plots.run import run_charts, split_charts
from wirebert.report.report import Report
from wirebert.telemetry.history import History

KINDS = ["f1", "confusion", "roc", "precision_recall", "scores", "calibration"]
TRAINING = ["loss", "quality", "learning_rates", "gradient_norm", "throughput", "token_throughput"]


def test_a_run_has_every_chart_that_of_the_last_split_first(report: Report, history: History) -> None:
    names = [f"{kind}_{split}" for split in ("test", "valid") for kind in KINDS]
    resources = ["resource_use", "resource_memory"]
    assert list(run_charts(report, history)) == ["classes", *TRAINING, *resources, *names]


def test_without_a_benign_class_there_are_no_attack_scores() -> None:
    true = np.arange(80) % 2
    metrics = compute_metrics(true, np.eye(2)[true], ("a", "b"), None, num_resamples=5)
    assert list(split_charts("flows", metrics)) == [kind for kind in KINDS if kind != "scores"]


def test_a_reliability_diagram_has_no_bin_of_few_flows_and_each_has_its_interval() -> None:
    true = np.array([0] * 40 + [1] * 29)
    metrics = compute_metrics(true, np.eye(2)[true] * 0.8 + 0.1, ("a", "b"), None, num_resamples=5)
    few = compute_metrics(true[:29], np.eye(2)[true[:29]], ("a", "b"), None, num_resamples=5)
    assert "calibration" not in split_charts("flows", few)
    (point,) = split_charts("flows", metrics)["calibration"].spec["data"]["values"]  # pyright: ignore
    low, high = proportion_confint(point["flows"])
    assert (point["low"], point["high"]) == pytest.approx((low, high), abs=1e-4)


def proportion_confint(num_flows: int) -> tuple[float, float]:
    """The Wilson interval of all of so many, by scipy."""
    found = binomtest(num_flows, num_flows).proportion_ci(0.95, method="wilson")
    return found.low, found.high


def test_a_report_of_an_earlier_version_has_the_charts_that_it_has_figures_for(report: Report) -> None:
    lean = {
        name: replace(metrics, curves=None, calibration=None, score_histogram=None)
        for name, metrics in report.splits.items()
    }
    charts = run_charts(replace(report, splits=lean))
    assert list(charts) == ["classes", "f1_test", "confusion_test", "f1_valid", "confusion_valid"]
