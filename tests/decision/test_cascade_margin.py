import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.decision.cascade_margin import LEAST_AGREEMENT, LEAST_SHARE, choose_margin, class_gaps
from wirebert.metrics.confusion import macro_f1


def test_the_gap_is_one_of_logits_where_probabilities_are_alike():
    logits = np.array([[90.0, 0.0, 1.0], [50.0, 0.0, 1.0]], np.float32)
    assert class_gaps(logits).tolist() == [89.0, 49.0]
    shifted = logits - np.float32(30)  # as logarithms of probabilities are
    assert class_gaps(shifted).tolist() == [89.0, 49.0]


@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.3, 1.0, 3.0]))
def test_the_margin_is_the_smallest_that_keeps_the_classes_of_the_big_model(seed: int, spread: float):
    rng = np.random.default_rng(seed)
    small = 3 * rng.normal(size=(4_000, 3))
    big = small + spread * rng.normal(size=(4_000, 3))
    chosen = choose_margin(small, big)
    gaps, found, expected = class_gaps(small), small.argmax(axis=1), big.argmax(axis=1)

    def agreement(margin: float) -> float:
        return macro_f1(expected, np.where(gaps < margin, expected, found))

    assert chosen.agreement == agreement(chosen.margin) >= LEAST_AGREEMENT
    assert chosen.share == (gaps < chosen.margin).mean() >= LEAST_SHARE
    if chosen.share > LEAST_SHARE:
        assert agreement(float(np.nextafter(chosen.margin, 0))) < LEAST_AGREEMENT


@pytest.mark.parametrize("order", [1, -1])
def test_models_that_agree_leave_a_tenth_to_the_big_one(order: int):
    logits = np.stack([np.arange(100.0)[::order], np.full(100, -1.0)], axis=1)
    assert choose_margin(logits, 5 * logits).share == LEAST_SHARE


def test_a_rare_class_counts_as_much_as_the_most_frequent():
    """One flow in 2,000 that the small model is sure of, and wrong: 99.95 % of the classes agree."""
    small = np.stack([np.linspace(1, 20, 2_000), np.zeros(2_000)], axis=1)
    big = small.copy()
    big[[1_200, 3], 1] = 30.0
    chosen = choose_margin(small, big)
    assert chosen.share == 1_201 / 2_000
    assert chosen.agreement == 1.0
