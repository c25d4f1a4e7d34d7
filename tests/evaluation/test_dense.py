import numpy as np
import pytest

from wirebert.evaluation.dense import Dense
from wirebert.evaluation.tasks import Rows, Task


def task(numbers: np.ndarray, is_code: list[bool]) -> Task:
    rows = Rows(numbers)
    ids = np.zeros(len(numbers), dtype=np.int64)
    return Task(train=rows, train_ids=ids, stop=rows, stop_ids=ids, is_code=np.array(is_code), num_classes=1)


@pytest.mark.parametrize("scaling", ["standard", "logarithm", "quantile"])
def test_everything_becomes_finite_and_missing_is_marked(scaling: str) -> None:
    numbers = np.array([[0.0, 1.0], [np.nan, 1e300], [5.0, -1e300], [7.0, 2.0]])
    dense = Dense.fit(task(numbers, [False, False]), scaling, seed=1)(Rows(numbers))
    assert dense.shape == (4, 4)
    assert np.isfinite(dense).all()
    assert dense[:, 0].tolist() == [0, 1, 0, 0]


def test_standard_scaling_is_by_mean_and_deviation_of_the_training_rows() -> None:
    numbers = np.arange(5.0)[:, np.newaxis]
    dense = Dense.fit(task(numbers, [False]), "standard", seed=1)(Rows(np.array([[2.0], [4.0]])))
    assert dense[:, 1] == pytest.approx([0, np.sqrt(2)])


def test_each_frequent_code_has_a_column_and_an_unseen_one_has_none() -> None:
    numbers = np.array([[0.0], [1.0], [1.0], [2.0]])
    dense = Dense.fit(task(numbers, [True]), "standard", seed=1)(Rows(np.array([[1.0], [9.0], [np.nan]])))
    assert dense.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
