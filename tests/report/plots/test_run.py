from dataclasses import replace

import numpy as np

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
    metrics = compute_metrics(np.array([0, 1]), np.eye(2), ("a", "b"), None, num_resamples=5)
    assert list(split_charts("flows", metrics)) == [kind for kind in KINDS if kind != "scores"]


def test_a_report_of_an_earlier_version_has_the_charts_that_it_has_figures_for(report: Report) -> None:
    lean = {
        name: replace(metrics, curves=None, calibration=None, score_histogram=None)
        for name, metrics in report.splits.items()
    }
    charts = run_charts(replace(report, splits=lean))
    assert list(charts) == ["classes", "f1_test", "confusion_test", "f1_valid", "confusion_valid"]
