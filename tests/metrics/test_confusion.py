import numpy as np
import pytest

from wirebert.metrics.confusion import class_metrics, confusion_matrix, headline_metrics

MATRIX = np.array([[6, 1, 1], [0, 3, 1], [2, 0, 0]])  # normal, dos, probe


def test_true_classes_are_rows() -> None:
    assert confusion_matrix(np.array([0, 2]), np.array([1, 2]), 3).tolist() == [
        [0, 1, 0],
        [0, 0, 0],
        [0, 0, 1],
    ]


def test_figures_worked_out_by_hand() -> None:
    classes = class_metrics(MATRIX[np.newaxis].astype(float))
    assert classes["precision"][0].tolist() == pytest.approx([6 / 8, 3 / 4, 0])
    assert classes["recall"][0].tolist() == pytest.approx([6 / 8, 3 / 4, 0])
    assert classes["accuracy"][0].tolist() == pytest.approx([10 / 14, 12 / 14, 10 / 14])
    headline = {
        name: value[0] for name, value in headline_metrics(MATRIX[np.newaxis].astype(float), 0).items()
    }
    assert headline["accuracy"] == pytest.approx(9 / 14)
    assert headline["macro_f1"] == pytest.approx((0.75 + 0.75 + 0) / 3)
    assert headline["binary_accuracy"] == pytest.approx((6 + 4) / 14)
    assert headline["binary_recall"] == pytest.approx(4 / 6)
    assert headline["binary_false_positive_rate"] == pytest.approx(2 / 8)


def test_each_matrix_of_a_stack_is_by_itself() -> None:
    other = np.eye(3, dtype=int)
    stack = headline_metrics(np.stack([MATRIX, other]).astype(float), 0)
    for position, matrix in enumerate((MATRIX, other)):
        alone = headline_metrics(matrix[np.newaxis].astype(float), 0)
        assert {name: value[position] for name, value in stack.items()} == {n: v[0] for n, v in alone.items()}


def test_an_empty_matrix_gives_zeros() -> None:
    assert {value[0] for value in headline_metrics(np.zeros((1, 3, 3)), 0).values()} == {0.0}
