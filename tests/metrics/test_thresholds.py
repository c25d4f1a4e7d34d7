import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from wirebert.metrics.thresholds import (
    Threshold,
    fit_threshold,
    laxest_threshold,
    precision_at,
    threshold_metrics,
    wilson_interval,
)


def draw(seed: int, num_flows: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, many of them equal where there are few decimals, and which flows are attacks."""
    rng = np.random.default_rng(seed)
    is_attack = rng.random(num_flows) < 0.4
    scores = np.where(is_attack, rng.beta(4, 2, num_flows), rng.beta(2, 4, num_flows)).round(decimals)
    is_attack[0] = False
    return scores, is_attack


@given(st.integers(0, 10_000), st.integers(1, 80), st.sampled_from([1, 6]), st.integers(0, 20))
def test_the_threshold_is_the_laxest_that_keeps_the_number(
    seed: int, num_flows: int, decimals: int, most: int
) -> None:
    scores, is_attack = draw(seed, num_flows, decimals)
    found = laxest_threshold(scores, ~is_attack, most)

    def reached(threshold: float) -> int:
        return int((scores[~is_attack] >= threshold).sum())

    assert reached(found) <= most
    # Any observed score below it lets in too many.
    assert all(reached(score) > most for score in scores[scores < found])


def test_a_threshold_lies_between_two_scores() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    assert laxest_threshold(scores, np.array([True, True, False, True]), 1) == pytest.approx(0.5)


@given(st.integers(0, 10_000), st.integers(1, 200), st.sampled_from([0.5, 0.1, 0.01]))
def test_the_rate_on_its_own_flows_is_kept(seed: int, num_flows: int, rate: float) -> None:
    scores, is_attack = draw(seed, num_flows, 2)
    found = fit_threshold(scores, is_attack, rate)
    assert found.num_false_positives == int((scores[~is_attack] >= found.threshold).sum())
    assert found.num_false_positives <= rate * found.num_benign
    assert found.fpr_interval == wilson_interval(found.num_false_positives, found.num_benign)


@pytest.mark.parametrize(
    ("num_benign", "rate", "is_trusted"),
    [(1_599, 0.01, False), (1_600, 0.01, True), (6_700, 0.001, False), (16_000, 0.001, True)],
)
def test_a_threshold_is_trusted_from_16_expected_false_positives_on(
    num_benign: int, rate: float, is_trusted: bool
) -> None:
    scores, no_attack = np.linspace(0, 1, num_benign), np.zeros(num_benign, bool)
    assert fit_threshold(scores, no_attack, rate).is_trusted is is_trusted


def test_repeated_benign_flows_earn_no_trust() -> None:
    scores, no_attack = np.linspace(0, 1, 16_000), np.zeros(16_000, bool)
    found = fit_threshold(scores, no_attack, 0.001, num_distinct=15_999)
    assert (found.num_benign, found.num_distinct, found.is_trusted) == (16_000, 15_999, False)


@pytest.mark.parametrize(("false_positives", "is_off"), [(1, True), (5, False), (10, False), (30, True)])
def test_a_rate_is_off_target_where_the_target_is_outside_its_interval(
    false_positives: int, is_off: bool
) -> None:
    scores = np.repeat([0.0, 1.0], [1_000 - false_positives, false_positives])
    at = fit_threshold(np.linspace(0, 0.5, 1_600), np.zeros(1_600, bool), 0.01)
    assert threshold_metrics(scores, np.zeros(1_000, bool), at).is_off_target is is_off


@pytest.mark.parametrize(("hits", "tries"), [(0, 50), (3, 50), (50, 50), (7, 6734)])
def test_the_interval_of_a_share_is_wilsons(hits: int, tries: int) -> None:
    expected: Any = binomtest(hits, tries).proportion_ci(method="wilson")
    assert wilson_interval(hits, tries) == pytest.approx((expected.low, expected.high))


def at(threshold: float) -> Threshold:
    return Threshold(
        target_fpr=0.01,
        threshold=threshold,
        num_benign=1,
        num_false_positives=0,
        fpr_interval=(0.0, 1.0),
        num_distinct=1,
        is_trusted=False,
    )


def test_an_operating_point_counts_what_a_hand_counts() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.1, 0.1, 0.1])
    is_attack = np.array([True, True, False, True, False, False, False, True])
    point = threshold_metrics(scores, is_attack, at(0.7))
    assert (point.fpr, point.tpr, point.precision) == (1 / 4, 2 / 4, 2 / 3)
    assert point.alerts_per_10000 == 3750
    # Of 10,000 flows 100 are attacks: 50 found; of 9,900 benign ones 2,475 alert.
    assert point.precision_at_prevalence["0.01"] == pytest.approx(50 / (50 + 2475))
    assert list(point.precision_at_prevalence) == ["0.01", "0.001", "0.0001"]


def test_what_can_not_be_divided_is_not_known() -> None:
    benign = threshold_metrics(np.array([0.2, 0.4]), np.zeros(2, bool), at(0.5))
    assert (benign.fpr, benign.tpr, benign.precision, benign.alerts_per_10000) == (0.0, None, None, 0)
    attacks = threshold_metrics(np.array([0.2, 0.6]), np.ones(2, bool), at(0.5))
    assert (attacks.fpr, attacks.fpr_interval, attacks.tpr) == (None, None, 0.5)
    nothing = threshold_metrics(np.empty(0), np.empty(0, bool), at(0.5))
    assert (nothing.fpr, nothing.tpr, nothing.alerts_per_10000) == (None, None, 0)


def test_without_a_false_alert_precision_elsewhere_is_not_known() -> None:
    assert precision_at(0.001, detection=0.9, fpr=0.0) is None
    assert precision_at(0.001, detection=0.9, fpr=1e-9) == pytest.approx(1, abs=1e-5)


def test_flows_that_score_alike_alert_together_or_not_at_all() -> None:
    scores = np.array([1.0, 1.0, 1.0])
    threshold = laxest_threshold(scores, np.ones(3, bool), 2)
    assert threshold > 1
    assert math.isclose(threshold, 1)
