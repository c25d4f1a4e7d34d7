import warnings

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from wirebert.evaluation.tasks import Rows, class_weights, known

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
