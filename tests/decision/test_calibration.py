from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from wirebert.decision.calibration import (
    METHODS,
    LogitScaling,
    Method,
    choose_scaling,
    fit_scaling,
    log_losses,
    mean_probabilities,
    priors_by_confusion,
    priors_by_likelihood,
    softmax,
)
from wirebert.metrics.reliability import calibration_error


def sample(
    num_flows: int, shares: np.ndarray, *, seed: int = 0, spread: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are the true log-probabilities under equal shares, and classes drawn with `shares`."""
    rng = np.random.default_rng(seed)
    class_ids = rng.choice(len(shares), num_flows, p=shares)
    # Around its class's corner with unit variance: log density differs from class to class by the dot
    # product.
    points = rng.normal(size=(num_flows, len(shares))) + spread * np.eye(len(shares))[class_ids]
    return spread * points, class_ids


EQUAL = np.full(3, 1 / 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_scaling_has_the_least_penalised_loss_that_a_general_optimiser_finds(method: Method) -> None:
    logits, class_ids = sample(300, np.array([0.6, 0.3, 0.1]))
    logits = 3 * logits + np.array([1.0, 0.0, -1.0])
    found = fit_scaling(logits, class_ids, method)

    def unpack(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return {
            "none": lambda: (np.ones(3), np.zeros(3)),
            "temperature": lambda: (np.full(3, free[0]), np.zeros(3)),
            "biases": lambda: (np.full(3, free[0]), free[1:4]),
            "vector": lambda: (free[:3], free[3:6]),
        }[method]()

    def loss(factors: np.ndarray, addends: np.ndarray) -> float:
        pull = ((factors - 1) ** 2).sum() + (addends**2).sum()
        return log_losses(logits * factors + addends, class_ids).mean() + 0.5 * pull / len(logits)

    start = np.array([1.0, 1, 1, 0, 0, 0]) if method == "vector" else np.array([1.0, 0, 0, 0])

    def of(free: np.ndarray) -> float:
        return loss(*unpack(free))

    best: Any = minimize(of, start, tol=1e-10)
    assert loss(found.scale, found.bias) == pytest.approx(best.fun, abs=1e-7)


def test_a_temperature_that_was_put_in_is_found_again() -> None:
    logits, class_ids = sample(20_000, EQUAL)
    found = fit_scaling(4 * logits, class_ids, "temperature")
    np.testing.assert_allclose(found.scale, 0.25, rtol=0.05)
    assert not found.bias.any()


def test_temperature_never_changes_the_most_probable_class() -> None:
    logits, class_ids = sample(500, EQUAL)
    scaled = fit_scaling(logits, class_ids, "temperature").apply(logits)
    assert (scaled.argmax(axis=1) == logits.argmax(axis=1)).all()


def test_a_class_without_a_flow_is_not_scaled_away() -> None:
    logits, class_ids = sample(400, np.array([0.5, 0.5, 0.0]))
    found = fit_scaling(logits, class_ids, "vector")
    assert np.isfinite(found.scale).all()
    assert np.abs(found.bias).max() < 10


def test_the_richest_scaling_is_taken_only_if_flows_left_out_speak_for_it() -> None:
    logits, class_ids = sample(1_500, EQUAL)
    assert choose_scaling(logits, class_ids, seed=0).method == "none"
    assert choose_scaling(5 * logits, class_ids, seed=0).method == "temperature"
    assert choose_scaling(5 * logits + [2.0, 0, 0], class_ids, seed=0).method == "biases"
    assert choose_scaling(logits * [1.0, 4, 1], class_ids, seed=0).method == "vector"


def test_few_flows_do_not_buy_many_numbers() -> None:
    logits, class_ids = sample(30, EQUAL, seed=1)
    assert choose_scaling(logits, class_ids, seed=0).method in ("none", "temperature")


def test_a_single_flow_speaks_for_nothing() -> None:
    logits, class_ids = sample(1, EQUAL)
    found = choose_scaling(logits, class_ids, seed=0)
    assert found.method == "none"
    assert (found.apply(logits) == logits).all()


def test_calibration_lowers_the_expected_error() -> None:
    logits, class_ids = sample(4_000, EQUAL)
    before, after = 4 * logits, fit_scaling(4 * logits, class_ids, "temperature").apply(4 * logits)

    def error(scores: np.ndarray) -> float:
        probabilities = softmax(scores)
        return calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == class_ids)

    assert error(before) > 0.05
    assert error(after) < 0.02


def test_the_calibration_error_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    confidence, is_right = rng.random(500), rng.random(500) < 0.5
    expected = 0.0
    for number in range(10):
        inside = (confidence >= number / 10) & (confidence < (number + 1) / 10)
        expected += abs(confidence[inside].mean() - is_right[inside].mean()) * inside.sum() / 500
    assert calibration_error(confidence, is_right, 10) == pytest.approx(expected)
    assert calibration_error(np.empty(0), np.empty(0, bool)) == 0


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_another_prior_is_bayes_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, 3))
    old, new = rng.dirichlet(np.ones(3) * 5, 2)
    found = softmax(LogitScaling.identity(3).with_prior(old, new).apply(logits))
    expected = softmax(logits) * new / old
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-9)


def test_a_prior_of_nothing_stays_finite() -> None:
    found = softmax(
        LogitScaling.identity(2)
        .with_prior(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
        .apply(np.zeros((1, 2)))
    )
    np.testing.assert_allclose(found, [[1, 0]], atol=1e-12)


SHIFTED = np.array([0.9, 0.08, 0.02])


def test_shares_of_unlabelled_traffic_are_found_by_likelihood() -> None:
    logits, _ = sample(20_000, SHIFTED, seed=3, spread=2.5)
    np.testing.assert_allclose(priors_by_likelihood(softmax(logits), EQUAL), SHIFTED, atol=0.01)


def test_shares_of_unlabelled_traffic_are_found_by_confusion() -> None:
    known, class_ids = sample(20_000, EQUAL, seed=4, spread=2.5)
    logits, _ = sample(20_000, SHIFTED, seed=3, spread=2.5)
    confusion = mean_probabilities(softmax(known), class_ids)
    np.testing.assert_allclose(priors_by_confusion(softmax(logits), confusion, EQUAL), SHIFTED, atol=0.02)


def test_shares_are_shares_whatever_the_traffic() -> None:
    probabilities = np.tile([0.999, 0.001, 0.0], (10, 1))
    for found in (
        priors_by_likelihood(probabilities, EQUAL),
        priors_by_confusion(probabilities, np.eye(3), EQUAL),
    ):
        assert found.sum() == pytest.approx(1)
        assert (found >= 0).all()


def test_softmax_survives_large_logits() -> None:
    probabilities = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32))
    np.testing.assert_allclose(probabilities, [[0.5, 0.5], [0.0, 1.0]])
