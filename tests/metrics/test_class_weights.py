import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from wirebert.metrics.class_weights import ClassWeighting, inverse_frequency_weights

COUNTS = np.array([6.0, 3.0, 1.0])


def test_balanced_weights_are_scikit_learns() -> None:
    ids = np.repeat([0, 1, 2], COUNTS.astype(int))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=ids)
    assert inverse_frequency_weights(COUNTS, "balanced") == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "power"), [("none", 0.0), ("sqrt", 0.5), ("balanced", 1.0)])
def test_each_kind_is_a_power_of_the_balanced_weights(kind: ClassWeighting, power: float) -> None:
    balanced = inverse_frequency_weights(COUNTS, "balanced")
    assert inverse_frequency_weights(COUNTS, kind) == pytest.approx(balanced**power)


def test_a_class_of_average_size_has_weight_one() -> None:
    assert inverse_frequency_weights(np.array([4.0, 2.0, 3.0]), "sqrt")[2] == pytest.approx(1)
