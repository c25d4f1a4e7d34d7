"""Metrics for programs and notebooks."""

from pathlib import Path

import wirebert as wb
from wirebert.api.evaluation import Evaluation
from wirebert.report.report import read_json


def test_metrics_are_those_of_report_json(trained: Path):
    report = read_json(trained / "report.json")
    evaluation = Evaluation(report)
    last = list(report.splits.values())[-1]
    assert evaluation.metrics == dict(last.headline)
    assert evaluation.per_class["benign"]["recall"] == last.per_class["benign"].recall


def test_the_report_of_a_run_comes_with_its_page(detector: wb.Detector, trained: Path):
    shown = detector.report()
    assert shown.page == trained / "report.html"
    html = shown._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert "<table>" in html
    assert "boosted trees" in html
