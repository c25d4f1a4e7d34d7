import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.decision.cascade_margin import choose_margin, class_gaps


def test_the_gap_is_one_of_logits_where_probabilities_are_alike():
    logits = np.array([[90.0, 0.0, 1.0], [50.0, 0.0, 1.0]], np.float32)
    assert class_gaps(logits).tolist() == [89.0, 49.0]
    shifted = logits - np.float32(30)  # as logarithms of probabilities are
    assert class_gaps(shifted).tolist() == [89.0, 49.0]


@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_the_margin_is_the_smallest_that_keeps_the_classes_of_the_big_model(seed: int, same: float):
    rng = np.random.default_rng(seed)
    small = rng.normal(size=(60, 3))
    big = small + rng.normal(size=(60, 3))
    chosen = choose_margin(small, big, same=same)
    gaps, differs = class_gaps(small), small.argmax(axis=1) != big.argmax(axis=1)

    def share_kept(margin: float) -> float:
        return float(1 - (differs & (gaps >= margin)).mean())

    assert chosen.same == share_kept(chosen.margin)
    assert chosen.same >= same - 1e-12
    assert chosen.share == (gaps < chosen.margin).mean()
    if chosen.margin > 0:
        assert share_kept(float(np.nextafter(chosen.margin, 0))) < same


def test_models_that_agree_need_no_margin():
    logits = np.eye(3)
    assert choose_margin(logits, 5 * logits, same=1.0) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(("same", "share"), [(1.0, 0.75), (0.75, 0.25)])
def test_few_flows_may_not_differ_at_all(same: float, share: float):
    small = np.array([[1.0, 0], [2, 0], [3, 0], [4, 0]])
    big = np.array([[0.0, 1], [1, 0], [0, 1], [1, 0]])
    assert choose_margin(small, big, same=same).share == share
