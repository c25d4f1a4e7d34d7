import numpy as np
import pytest

from wirebert.metrics.reliability import reliability


def test_bins_hold_the_mean_probability_and_the_share_that_came_true() -> None:
    diagram = reliability(np.array([0.02, 0.04, 0.99, 1.0]), np.array([False, True, True, True]))
    low, high = diagram.bins
    assert (low.num_flows, low.probability, low.observed_frequency) == (2, pytest.approx(0.03), 0.5)
    assert (high.num_flows, high.probability, high.observed_frequency) == (2, pytest.approx(0.995), 1.0)
    assert diagram.expected_error == pytest.approx((2 * 0.47 + 2 * 0.005) / 4)


def test_probabilities_that_mean_what_they_say_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(20_000)
    honest = reliability(probabilities, rng.random(20_000) < probabilities)
    boastful = reliability(probabilities, rng.random(20_000) < probabilities / 2)
    assert honest.expected_error < 0.02
    assert boastful.expected_error == pytest.approx(0.25, abs=0.02)
    assert sum(part.num_flows for part in honest.bins) == 20_000


def test_no_flow_has_no_bin() -> None:
    assert reliability(np.empty(0), np.empty(0, dtype=np.bool_)).bins == ()
