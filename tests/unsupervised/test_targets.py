import numpy as np

from wirebert.unsupervised.targets import UnusualTarget, most_surprising


def surprisals(num_flows: int = 2000, seed: int = 0) -> np.ndarray:
    """Two columns: one of little and one of much surprisal."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.exponential(0.1, num_flows), 5 + rng.normal(0, 2, num_flows)], axis=1)


def test_the_score_is_the_sum_of_standardised_surprisals():
    table = surprisals()
    target = UnusualTarget.fit(table, 0.0)
    by_hand = sum((table[:, c] - table[:, c].mean()) / (table[:, c].std() + 0.1) for c in range(2))
    np.testing.assert_allclose(target.scores(table), by_hand)


def test_one_half_is_where_one_percent_of_the_flows_score_as_high_and_odds_go_on_rising_beyond():
    table = surprisals()
    target = UnusualTarget.fit(table, 0.0)
    unusual = target.probabilities(table)[:, 1]
    assert abs((unusual >= 0.5).mean() - 0.01) <= 0.001
    order = np.argsort(target.scores(table))
    assert (np.diff(unusual[order]) >= -1e-12).all()
    far = target.probabilities(np.array([[0.1, 5.0], [0.8, 5.0], [0.9, 5.0], [1e6, 5.0]]))
    assert (np.diff(far[:3, 1]) > 0).all()
    assert np.isfinite(far).all()
    np.testing.assert_allclose(far.sum(axis=1), 1)


def test_attacks_among_the_training_flows_do_not_hide_themselves():
    clean = surprisals()
    attacks = np.tile([4.0, 5.0], (40, 1)) + np.random.default_rng(1).normal(0, 0.1, (40, 2))
    mixed = np.concatenate([clean, attacks])
    fitted = {share: UnusualTarget.fit(mixed, share).probabilities(attacks)[:, 1] for share in (0.0, 0.03)}
    assert (fitted[0.03] > fitted[0.0]).all()
    assert fitted[0.0].mean() < 0.6
    assert fitted[0.03].min() > 0.9


def test_the_most_surprising_are_a_fraction_rounded_down_and_ties_keep_their_order():
    assert most_surprising(np.array([1.0, 2.0, 2.0, 0.0]), 0.5).tolist() == [False, True, True, False]
    assert most_surprising(np.array([2.0, 2.0, 2.0]), 0.4).tolist() == [True, False, False]
    assert not most_surprising(np.array([2.0, 2.0, 2.0]), 0.3).any()
