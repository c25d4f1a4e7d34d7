import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wirebert.decision.alert_score import (
    MAX_KNOTS,
    CombinedAlertScore,
    NegLogPValue,
    log_odds,
    neg_log_p_value,
)
from wirebert.serialization import from_builtins, to_builtins


def slow_surprise(known: list[float], score: float) -> float:
    """Counted flow by flow."""
    num_above = sum(one >= score for one in known)
    return -math.log((num_above + 1) / (len(known) + 1))


def benign(num_flows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Attack scores, mostly low, and novelty, 0 for a third of the flows."""
    rng = np.random.default_rng(seed)
    novelty = rng.gamma(2, 1, num_flows) * (rng.random(num_flows) > 1 / 3)
    return rng.beta(0.3, 30, num_flows).clip(1e-12), novelty


ATTACK, NOVELTY = benign()
ALARM = CombinedAlertScore.fit(ATTACK, NOVELTY)


def test_surprise_is_the_share_of_benign_flows_that_score_as_high() -> None:
    scores = np.array([-1.0, 0.0, 0.7, NOVELTY[5], NOVELTY.max(), 99.0])
    expected = [slow_surprise(NOVELTY.tolist(), score) for score in scores]
    np.testing.assert_allclose(neg_log_p_value(NOVELTY, scores), expected, atol=1e-12)


def test_the_joined_score_of_a_benign_flow_is_both_surprises_added_up() -> None:
    expected = [
        slow_surprise(ATTACK.tolist(), attack) + slow_surprise(NOVELTY.tolist(), novelty)
        for attack, novelty in zip(ATTACK, NOVELTY, strict=True)
    ]
    np.testing.assert_allclose(ALARM.scores(ATTACK, NOVELTY), expected, atol=1e-9)


def test_novelty_counts_as_often_as_its_weight_says() -> None:
    twice = CombinedAlertScore.fit(ATTACK, NOVELTY, 2.0)
    attack, novelty = ALARM.attack.of(log_odds(ATTACK)), ALARM.novelty.of(NOVELTY)
    np.testing.assert_allclose(twice.scores(ATTACK, NOVELTY), attack + 2 * novelty)
    assert np.array_equal(twice.goes_by_novelty(ATTACK, NOVELTY), 2 * novelty > attack)


def test_an_alarm_score_written_without_a_weight_counts_both_alike() -> None:
    plain = to_builtins(ALARM)
    assert isinstance(plain, dict)
    del plain["novelty_weight"]
    assert from_builtins(CombinedAlertScore, plain) == ALARM


def test_few_knots_of_many_flows_are_near_the_whole_truth() -> None:
    known = np.random.default_rng(1).gumbel(size=50_000)
    curve = NegLogPValue.fit(known)
    assert len(curve.scores) <= MAX_KNOTS
    np.testing.assert_allclose(curve.of(known), neg_log_p_value(known, known), atol=0.02)
    top = np.sort(known)[-20:]
    np.testing.assert_allclose(curve.of(top), neg_log_p_value(known, top), atol=1e-9)


def test_above_all_benign_flows_an_exponential_tail_goes_on_as_it_is() -> None:
    known = np.random.default_rng(2).exponential(3.0, 100_000)
    far = np.array([50.0, 60.0, 90.0])
    np.testing.assert_allclose(NegLogPValue.fit(known).of(far), far / 3, rtol=0.15)


Attack = st.one_of(st.floats(0, 1), st.floats(1e-15, 1e-3).map(lambda rest: 1 - rest))
Novelty = st.floats(0, 1000)


@given(Attack, Attack, Novelty, Novelty)
def test_the_alarm_score_falls_with_neither_score(a: float, b: float, c: float, d: float) -> None:
    low, high = ALARM.scores(np.array([min(a, b), max(a, b)]), np.array([min(c, d), max(c, d)]))
    assert low <= high + 1e-9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), Attack, Attack, Novelty)
@example([0.0, 5e-324], 0.1, 0.2, 1.0)
def test_whatever_the_benign_flows_the_alarm_score_is_finite_and_in_order(
    known: list[float], a: float, b: float, novelty: float
) -> None:
    alarm = CombinedAlertScore.fit(np.array(known), np.array(known))
    low, high = alarm.scores(np.array([min(a, b), max(a, b)]), np.full(2, novelty))
    assert np.isfinite([low, high]).all()
    assert low <= high + 1e-9 * max(1.0, high)


@given(st.floats(0.2, 0.999), st.floats(1.01, 2), st.floats(9, 100), st.floats(1.01, 2))
def test_beyond_all_benign_flows_higher_scores_are_still_told_apart(
    attack: float, odds: float, novelty: float, further: float
) -> None:
    assert attack > ATTACK.max()
    assert novelty > NOVELTY.max()
    more = attack * odds / (attack * odds + 1 - attack)
    found = ALARM.scores(np.array([attack, more, attack]), np.array([novelty, novelty, novelty * further]))
    assert found[1] > found[0]
    assert found[2] > found[0]


def test_log_odds_are_finite_and_undo_the_logistic_function() -> None:
    values = np.array([-30.0, -2.0, 0.0, 2.0, 15.0])
    np.testing.assert_allclose(log_odds(1 / (1 + np.exp(-values))), values, rtol=1e-5)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_everything_survives_being_written_as_json() -> None:
    again = from_builtins(CombinedAlertScore, to_builtins(ALARM))
    assert again == ALARM


def test_where_all_attack_scores_move_the_shifted_score_is_what_it_was() -> None:
    moved = 1 / (1 + np.exp(-(log_odds(ATTACK) + 1.5)))
    np.testing.assert_allclose(
        ALARM.shifted(1.5).scores(moved, NOVELTY), ALARM.scores(ATTACK, NOVELTY), atol=1e-6
    )


@pytest.mark.parametrize("num_flows", [1, 2, 5])
def test_the_fewest_benign_flows_will_do(num_flows: int) -> None:
    alarm = CombinedAlertScore.fit(np.full(num_flows, 0.5), np.zeros(num_flows))
    found = alarm.scores(np.array([0.1, 0.5, 0.9]), np.array([0.0, 0.0, 2.0]))
    assert found[0] == found[1] == 0
    assert 0 < found[2] < 100


def test_no_flows_have_no_scores() -> None:
    assert ALARM.scores(np.empty(0), np.empty(0)).tolist() == []
