import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from wirebert.metrics.split_metrics import SplitMetrics, compute_metrics
from wirebert.report.plots.chart import Chart, to_svg
from wirebert.report.plots.scores import calibration, precision_recall, roc, scores


def noisy(num_classes: int, num_flows: int = 2000) -> SplitMetrics:
    rng = np.random.default_rng(num_classes)
    ids = rng.integers(0, num_classes, num_flows)
    logits = rng.normal(size=(num_flows, num_classes)) + 2 * np.eye(num_classes)[ids]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = ("normal", *(f"attack_{i}" for i in range(1, num_classes)))
    return compute_metrics(ids, probabilities, names, "normal", num_resamples=5)


def drawn(chart: Chart) -> list[dict[str, Any]]:
    data: Any = chart.spec["data"]
    return data["values"]


@pytest.mark.parametrize("num_classes", [2, 40])
def test_every_class_and_the_attacks_have_a_curve(num_classes: int) -> None:
    metrics = noisy(num_classes)
    for chart in (roc(metrics, "ROC", metrics), precision_recall(metrics, "PR", metrics)):
        assert len({row["line"] for row in drawn(chart)}) == num_classes + 2
        assert len(chart.rows) == num_classes + 2
        assert len(json.dumps(chart.spec)) < 300_000
        svg = to_svg(chart.spec)
        assert "NaN" not in svg
        # A colour and a name for each where there are few, one for all where there are many.
        assert (">attack_1</text>" in svg) == (num_classes == 2)
        assert (">each class</text>" in svg) == (num_classes == 40)


def test_the_class_filter_offers_all_the_attacks_and_each_class() -> None:
    metrics = noisy(3)
    options = precision_recall(metrics, "PR").switches[0].options
    assert list(options) == ["all", "attack", "class normal", "class attack_1", "class attack_2"]
    assert roc(metrics, "ROC").switches[1].options == options


def test_the_chosen_class_is_the_one_that_is_drawn() -> None:
    chart = precision_recall(noisy(3), "PR")
    lines = {}
    for value in ("all", "class attack_1"):
        svg = to_svg(chart.spec | {"params": [{"name": "shown", "value": value}]})
        lines[value] = svg.count('aria-roledescription="line mark container"') + svg.count('fill="none"')
    assert lines["class attack_1"] < lines["all"]


def test_roc_curves_begin_at_nothing_and_end_at_everything() -> None:
    rows = [row for row in drawn(roc(noisy(3), "ROC")) if row["line"] == "attack vs. benign"]
    assert (rows[0]["x"], rows[0]["y"]) == (0.0, 0.0)
    assert (rows[-1]["x"], rows[-1]["y"]) == (1.0, 1.0)
    assert all(a["x"] <= b["x"] and a["y"] <= b["y"] for a, b in pairwise(rows))


def test_classes_that_a_file_lacks_have_no_curve() -> None:
    metrics = compute_metrics(
        np.array([0, 0]), np.full((2, 3), 1 / 3), ("a", "b", "c"), None, num_resamples=5
    )
    assert metrics.curves is not None
    assert all(curve.auroc is None for curve in metrics.curves.classes.values())


def test_score_bars_are_shares_of_their_own_kind() -> None:
    metrics = noisy(3)
    assert metrics.score_histogram is not None
    chart = scores(metrics.score_histogram, "Scores")
    for key in ("benign", "attack", "class attack_1"):
        own = [row for row in drawn(chart) if row["key"] == key]
        assert sum(row["share"] for row in own) == pytest.approx(1, abs=1e-3)
    assert "NaN" not in to_svg(chart.spec)
    assert [row[0] for row in chart.rows] == ["benign flows", "all attacks", "attack_1", "attack_2"]


def test_calibration_shows_the_verdicts_and_the_attack_score() -> None:
    metrics = noisy(3)
    chart = calibration(metrics, "Calibration")
    assert {row["kind"] for row in drawn(chart)} == {"predicted class", "attack score"}
    assert metrics.calibration is not None
    assert f"{metrics.calibration.verdict.expected_error:.3f} (predicted class)" in chart.words
    assert "NaN" not in to_svg(chart.spec)


def test_scores_of_the_chosen_attacks_alone_stand_beside_the_benign_ones() -> None:
    metrics = noisy(3)
    assert metrics.score_histogram is not None
    chart = scores(metrics.score_histogram, "Scores")
    for shown in chart.switches[0].options:
        svg = to_svg(chart.spec | {"params": [{"name": "shown", "value": shown}]})
        bars = svg.split('class="mark-rect role-mark layer_0_marks"')[1].split("</g>")[0].count("<path")
        assert bars == sum(row["key"] in ("benign", shown) for row in drawn(chart))
