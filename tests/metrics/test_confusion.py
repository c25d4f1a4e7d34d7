import numpy as np
import pytest

from wirebert.metrics.confusion import class_metrics, confusion_matrix

MATRIX = np.array([[6, 1, 1], [0, 3, 1], [2, 0, 0]])  # normal, dos, probe


def test_true_classes_are_rows() -> None:
    assert confusion_matrix(np.array([0, 2]), np.array([1, 2]), 3).tolist() == [
        [0, 1, 0],
        [0, 0, 0],
        [0, 0, 1],
    ]


def test_class_metrics_worked_out_by_hand() -> None:
    classes = class_metrics(MATRIX[np.newaxis].astype(float))
    assert classes["precision"][0].tolist() == pytest.approx([6 / 8, 3 / 4, 0])
    assert classes["recall"][0].tolist() == pytest.approx([6 / 8, 3 / 4, 0])
    assert classes["f1"][0].tolist() == pytest.approx([6 / 8, 3 / 4, 0])
    assert classes["accuracy"][0].tolist() == pytest.approx([10 / 14, 12 / 14, 10 / 14])
