import numpy as np
import pytest
from sklearn.metrics import f1_score

from wirebert.metrics.confusion import class_metrics, confusion_matrix, macro_f1

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


def test_macro_f1_is_what_scikit_learn_calls_so():
    random = np.random.default_rng(0)
    true_ids, predicted_ids = random.integers(0, 4, 200), random.choice([0, 1, 2, 3, 5], 200)
    assert macro_f1(true_ids, predicted_ids) == pytest.approx(
        f1_score(true_ids, predicted_ids, average="macro")
    )
