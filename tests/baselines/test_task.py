import warnings

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from wirebert.baselines.task import Rows, ScaledFeatures, Task, class_weights, known

IDS = np.array([0, 0, 0, 0, 0, 1, 1, 2], dtype=np.int64)


def test_balanced_weights_are_scikit_learns() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=IDS)
    assert class_weights(IDS, 3, "balanced") == pytest.approx(expected)


@pytest.mark.parametrize("kind", [None, "sqrt", "balanced"])
def test_weights_leave_the_mean_weight_of_a_flow_at_one(kind: str | None) -> None:
    assert class_weights(IDS, 3, kind)[IDS].mean() == pytest.approx(1)


def test_rows_are_taken_with_their_texts() -> None:
    rows = Rows(np.arange(6.0).reshape(3, 2), ["a", "b", "c"]).take(np.array([2, 0]))
    assert rows.numbers.tolist() == [[4, 5], [0, 1]]
    assert rows.texts == ["c", "a"]


def test_only_the_known_warning_is_passed_over() -> None:
    with known("lbfgs"):
        warnings.warn("lbfgs failed", stacklevel=1)
    with pytest.raises(UserWarning, match="other"), known("lbfgs"):
        warnings.warn("other", stacklevel=1)


def task(numbers: np.ndarray, is_code: list[bool]) -> Task:
    rows = Rows(numbers)
    ids = np.zeros(len(numbers), dtype=np.int64)
    return Task(
        train=rows, train_ids=ids, stop=rows, stop_ids=ids, is_categorical=np.array(is_code), num_classes=1
    )


@pytest.mark.parametrize("scaling", ["standard", "logarithm", "quantile"])
def test_everything_becomes_finite_and_missing_is_marked(scaling: str) -> None:
    numbers = np.array([[0.0, 1.0], [np.nan, 1e300], [5.0, -1e300], [7.0, 2.0]])
    dense = ScaledFeatures.fit(task(numbers, [False, False]), scaling, seed=1)(Rows(numbers))
    assert dense.shape == (4, 4)
    assert np.isfinite(dense).all()
    assert dense[:, 0].tolist() == [0, 1, 0, 0]


def test_standard_scaling_is_by_mean_and_deviation_of_the_training_rows() -> None:
    numbers = np.arange(5.0)[:, np.newaxis]
    dense = ScaledFeatures.fit(task(numbers, [False]), "standard", seed=1)(Rows(np.array([[2.0], [4.0]])))
    assert dense[:, 1] == pytest.approx([0, np.sqrt(2)])


def test_each_frequent_code_has_a_column_and_an_unseen_one_has_none() -> None:
    numbers = np.array([[0.0], [1.0], [1.0], [2.0]])
    dense = ScaledFeatures.fit(task(numbers, [True]), "standard", seed=1)(
        Rows(np.array([[1.0], [9.0], [np.nan]]))
    )
    assert dense.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
