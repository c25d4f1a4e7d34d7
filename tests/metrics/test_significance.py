from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test
from sklearn.metrics import accuracy_score, f1_score, roc_curve

from wirebert.metrics.intervals import ALONE
from wirebert.metrics.registry import TPR_AT_1PCT_FPR
from wirebert.metrics.significance import (
    LabelledRows,
    bootstrap_p_value,
    holm,
    paired_metrics,
    permutation_p_value,
    resample,
    seed_interval,
    tpr_at_fpr,
)

RNG = np.random.default_rng(0)
TRUE = RNG.integers(0, 3, 400)
WRONG = np.where(RNG.random((4, 400)) < [[0.1], [0.1], [0.4], [0.4]], (TRUE + 1) % 3, TRUE)
"""Two seeds of a method that is right nine times in ten, two of one that is right six times."""
SCORES = np.where(WRONG != 0, 0.6, 0.1) + 0.3 * RNG.random((4, 400))
JUDGED = LabelledRows(true_ids=TRUE, num_labels=3, benign=0)


def mean_gap(first: np.ndarray, second: np.ndarray) -> float:
    return abs(float(first.mean() - second.mean()))


def test_figures_are_those_of_scikit_learn() -> None:
    found = paired_metrics(JUDGED, WRONG)
    for place, predicted in enumerate(WRONG):
        assert found["accuracy"][place] == pytest.approx(accuracy_score(TRUE, predicted))
        assert found["macro_f1"][place] == pytest.approx(f1_score(TRUE, predicted, average="macro"))
        assert found["binary_accuracy"][place] == pytest.approx(accuracy_score(TRUE != 0, predicted != 0))


def test_detection_is_the_highest_recall_of_the_roc_curve_at_one_percent() -> None:
    found = paired_metrics(JUDGED, WRONG, SCORES)[TPR_AT_1PCT_FPR]
    for place, scores in enumerate(SCORES):
        curve = roc_curve(TRUE != 0, scores, drop_intermediate=False)
        rates, recall = np.asarray(curve[0]), np.asarray(curve[1])
        assert found[place] == pytest.approx(recall[rates <= 0.01].max())


@settings(max_examples=60)
@given(
    st.integers(2, 80), st.integers(1, 60), st.integers(1, 40), st.floats(0.05, 0.95), st.integers(0, 2**32)
)
def test_detection_on_weighted_flows_is_that_of_the_weighted_roc_curve(
    num_flows: int, num_levels: int, most: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    is_attack = rng.random(num_flows) < share
    is_attack[:2] = True, False
    scores = rng.integers(0, num_levels, (2, num_flows)).astype(np.float64)
    weights = rng.integers(0, most + 1, (3, num_flows)).astype(np.float64)
    weights[:, :2] = 1
    found = tpr_at_fpr(scores, is_attack, weights)
    for own, expected in zip(scores, found, strict=True):
        for weight, value in zip(weights, expected, strict=True):
            curve = roc_curve(is_attack, own, sample_weight=weight, drop_intermediate=False)
            # Rates are quotients there, and products of 1 % here.
            assert value == pytest.approx(np.asarray(curve[1])[np.asarray(curve[0]) <= 0.01 + 1e-12].max())


def test_without_benign_flows_all_attacks_are_found_and_without_attacks_none() -> None:
    scores, weights = np.array([[0.2, 0.8]]), np.array([[3.0, 0.0], [0.0, 2.0]])
    assert tpr_at_fpr(scores, np.array([True, False]), weights).tolist() == [[1.0, 0.0]]


def test_resamples_have_the_spread_of_drawing_flows_one_by_one() -> None:
    drawn = resample(JUDGED, WRONG[:1], by_cluster=False, seed=1, num_resamples=2000)["accuracy"][0]
    indices = np.random.default_rng(5).integers(0, 400, (2000, 400))
    reference = (WRONG[0] == TRUE)[indices].mean(axis=1)
    assert drawn.mean() == pytest.approx(reference.mean(), abs=0.003)
    assert drawn.std() == pytest.approx(reference.std(), rel=0.1)


def test_resamples_are_shared_by_all_methods() -> None:
    drawn = resample(
        JUDGED, np.stack([WRONG[0], WRONG[0]]), SCORES[[0, 0]], by_cluster=False, seed=1, num_resamples=20
    )
    for values in drawn.values():
        assert np.array_equal(values[0], values[1])


def test_clusters_are_drawn_whole() -> None:
    """Two clusters, one all right and one all wrong: a resample holds 0, 1 or 2 of the right one."""
    true = np.zeros(60, dtype=np.int64)
    predicted = np.repeat([0, 1], 30)[np.newaxis]
    judged = LabelledRows(true_ids=true, num_labels=2, benign=None, clusters=np.repeat([4, 9], 30))
    drawn = resample(judged, predicted, by_cluster=True, seed=0, num_resamples=200)["accuracy"][0]
    assert set(drawn.tolist()) == {0.0, 0.5, 1.0}


def test_flows_without_a_cluster_are_drawn_by_themselves() -> None:
    judged = LabelledRows(true_ids=TRUE, num_labels=3, benign=0, clusters=np.full(400, ALONE))
    assert not judged.has_clusters
    by_cluster = resample(judged, WRONG[:1], by_cluster=True, seed=1, num_resamples=1000)["accuracy"]
    assert by_cluster.std() == pytest.approx(0.015, rel=0.15)  # sqrt(0.9 x 0.1 / 400)


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not() -> None:
    drawn = resample(JUDGED, WRONG, by_cluster=False, seed=1, num_resamples=500)["accuracy"]
    assert bootstrap_p_value(drawn[:2].mean(axis=0) - drawn[2:].mean(axis=0)) == pytest.approx(2 / 501)
    assert bootstrap_p_value(drawn[0] - drawn[1]) > 0.05


def test_the_seeds_p_value_is_that_of_scipys_exact_permutation_test() -> None:
    first, second = np.array([0.5, 0.52, 0.56, 0.51, 0.6]), np.array([0.49, 0.5, 0.53, 0.48, 0.47])
    expected = permutation_test(
        (first, second), mean_gap, alternative="greater", n_resamples=10**6, vectorized=False
    )
    assert permutation_p_value(first, second) == pytest.approx(expected.pvalue)


def test_random_swaps_come_close_to_the_exact_p_value() -> None:
    first, second = RNG.normal(0.5, 1, 9), RNG.normal(0, 1, 9)  # 48,620 ways: too many to try all
    expected = permutation_test(
        (first, second), mean_gap, alternative="greater", n_resamples=10**6, vectorized=False
    )
    assert permutation_p_value(first, second) == pytest.approx(expected.pvalue, abs=0.01)


def test_the_interval_over_seeds_holds_their_mean() -> None:
    low, high = seed_interval(np.array([0.5, 0.6, 0.7]))
    assert low < 0.6 < high
    assert seed_interval(np.array([0.5, 0.5]), np.array([0.2, 0.2])) == pytest.approx((0.3, 0.3))


def test_holm_gives_each_test_its_own_place_whatever_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Wikipedia's example
    for order in permutations(range(3)):
        given = [(0.01, 0.02, 0.5)[place] for place in order]
        assert holm(given) == pytest.approx([(0.03, 0.04, 0.5)[place] for place in order])
    assert holm([]) == []


def test_a_rate_of_exactly_one_percent_is_allowed() -> None:
    """Of 100 benign flows one scores above the attack."""
    judged = LabelledRows(true_ids=np.repeat([0, 1], [100, 1]), num_labels=2, benign=0)
    scores = np.full((1, 101), 0.1)
    scores[0, [0, 100]] = 0.9, 0.5
    assert paired_metrics(judged, np.zeros((1, 101), dtype=np.int64), scores)[TPR_AT_1PCT_FPR].tolist() == [
        1.0
    ]
