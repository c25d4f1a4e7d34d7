import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from wirebert.metrics.confusion import class_metrics
from wirebert.metrics.registry import (
    METRICS,
    ConfusionStack,
    Metric,
    headline_metrics,
    headline_titles,
    primary_choices,
)

MATRIX = np.array([[6, 1, 1], [0, 3, 1], [2, 0, 0]])  # normal, dos, probe


def test_headline_metrics_worked_out_by_hand() -> None:
    headline = {
        name: value[0] for name, value in headline_metrics(MATRIX[np.newaxis].astype(float), 0).items()
    }
    assert headline["accuracy"] == pytest.approx(9 / 14)
    assert headline["macro_f1"] == pytest.approx((0.75 + 0.75 + 0) / 3)
    assert headline["binary_accuracy"] == pytest.approx((6 + 4) / 14)
    assert headline["binary_recall"] == pytest.approx(4 / 6)
    assert headline["binary_false_positive_rate"] == pytest.approx(2 / 8)


def test_each_matrix_of_a_stack_is_independent_of_the_others() -> None:
    other = np.eye(3, dtype=int)
    stack = headline_metrics(np.stack([MATRIX, other]).astype(float), 0)
    for position, matrix in enumerate((MATRIX, other)):
        alone = headline_metrics(matrix[np.newaxis].astype(float), 0)
        assert {name: value[position] for name, value in stack.items()} == {n: v[0] for n, v in alone.items()}


def test_an_empty_matrix_gives_zeros() -> None:
    assert {value[0] for value in headline_metrics(np.zeros((1, 3, 3)), 0).values()} == {0.0}


def test_without_a_benign_class_no_binary_metric_is_computed_or_offered() -> None:
    assert set(headline_metrics(MATRIX[np.newaxis].astype(float), None)) == {
        "accuracy",
        "macro_f1",
        "weighted_f1",
    }
    assert primary_choices(has_benign=False) == ("accuracy", "macro_f1")
    assert primary_choices() == ("accuracy", "macro_f1", "binary_accuracy", "tpr_at_1pct_fpr")


def test_a_metric_added_to_the_registry_reaches_every_page_and_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from wirebert.config import EvaluationConfig
    from wirebert.metrics.significance import LabelledRows
    from wirebert.metrics.split_metrics import compute_metrics
    from wirebert.report.comparison import Comparison, Predictions, compare_methods
    from wirebert.report.comparison_page import write_comparison
    from wirebert.report.comparison_terminal import print_comparison
    from wirebert.report.html.split import headline_table
    from wirebert.report.terminal import metric_rows

    def worst_recall(stack: ConfusionStack) -> np.ndarray:
        recall = class_metrics(stack.matrices)["recall"]
        return recall.min(axis=1)

    toy = Metric(key="worst_recall", title="recall of the worst class", of_confusion=worst_recall)
    monkeypatch.setitem(METRICS, toy.key, toy)

    true = np.array([0, 0, 1, 1, 1, 1])
    predicted = np.array([0, 0, 0, 1, 1, 1])
    metrics = compute_metrics(true, np.eye(2)[predicted], ("normal", "dos"), "normal", num_resamples=20)
    data = json.loads(json.dumps(metrics.to_json()))
    assert data["headline"]["worst_recall"] == pytest.approx(0.75)
    assert data["intervals"]["rows"]["worst_recall"][1] == 1.0
    cells = {row[0]: row[1] for row in metric_rows([metrics])}
    assert cells[toy.title].startswith("0.750")
    assert headline_titles()["worst_recall"] == toy.title
    assert toy.title in headline_table("test", metrics, {})

    rows = LabelledRows(true_ids=true, num_labels=2, benign=0)
    methods = [
        Predictions(name=name, predicted=found[np.newaxis], scores=found[np.newaxis].astype(float))
        for name, found in (("ours", predicted), ("theirs", true))
    ]
    split = compare_methods("test", rows, methods, [toy.key], num_resamples=20)
    comparison = Comparison(title="toy", primary=toy.key, splits=(split,))
    write_comparison(comparison, tmp_path / "compare.html", {})
    assert toy.title in (tmp_path / "compare.html").read_text(encoding="utf-8")
    output = StringIO()
    print_comparison(comparison, Console(file=output, width=200))
    assert toy.title in output.getvalue()
    assert EvaluationConfig(primary_metric=toy.key).primary_metric == toy.key
