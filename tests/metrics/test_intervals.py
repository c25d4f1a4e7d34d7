from typing import cast

import numpy as np
import pytest
from sklearn import metrics as sk

from wirebert.metrics.intervals import ALONE, bootstrap

ZERO = cast(str, 0)  # the stubs only know "warn"
LABELS = ("normal", "dos", "probe", "worm")


def verdicts(num_flows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true_ids = rng.choice(4, num_flows, p=[0.6, 0.3, 0.07, 0.03])
    predicted_ids = np.where(rng.random(num_flows) < 0.75, true_ids, rng.integers(0, 3, num_flows))
    return true_ids, predicted_ids


def slow_intervals(
    true_ids: np.ndarray, predicted_ids: np.ndarray, draws: list[np.ndarray]
) -> dict[str, np.ndarray]:
    figures: dict[str, list[float]] = {"accuracy": [], "macro_f1": [], "weighted_f1": [], "binary_recall": []}
    for rows in draws:
        true, predicted = true_ids[rows], predicted_ids[rows]
        figures["accuracy"].append(sk.accuracy_score(true, predicted))
        figures["macro_f1"].append(sk.f1_score(true, predicted, average="macro", zero_division=ZERO))
        figures["weighted_f1"].append(sk.f1_score(true, predicted, average="weighted", zero_division=ZERO))
        figures["binary_recall"].append(float((predicted[true != 0] != 0).mean()))
    return {name: np.quantile(values, [0.025, 0.975]) for name, values in figures.items()}


@pytest.mark.soak
def test_row_intervals_equal_those_of_rows_drawn_one_by_one() -> None:
    true_ids, predicted_ids = verdicts(300)
    rng = np.random.default_rng(1)
    slow = slow_intervals(true_ids, predicted_ids, [rng.integers(0, 300, 300) for _ in range(800)])
    fast = bootstrap(true_ids, predicted_ids, LABELS, 0, num_resamples=4000).rows
    for name, (low, high) in slow.items():
        # Two sets of draws of the same distribution: ends agree within a tenth of the width.
        assert fast[name] == pytest.approx((low, high), abs=0.1 * (high - low)), name


@pytest.mark.soak
def test_cluster_intervals_equal_those_of_whole_clusters_drawn() -> None:
    true_ids, predicted_ids = verdicts(600)
    clusters = np.repeat(np.arange(20), 30)
    hard = clusters % 5 == 0
    predicted_ids[hard] = 0  # whole clusters fail together, as attacks do
    rng = np.random.default_rng(1)
    members = [np.flatnonzero(clusters == name) for name in range(20)]
    draws = [np.concatenate([members[i] for i in rng.integers(0, 20, 20)]) for _ in range(800)]
    slow = slow_intervals(true_ids, predicted_ids, draws)
    result = bootstrap(true_ids, predicted_ids, LABELS, 0, clusters=clusters, num_resamples=4000)
    assert result.clusters is not None
    assert result.num_clusters == 20
    for name, (low, high) in slow.items():
        assert result.clusters[name] == pytest.approx((low, high), abs=0.1 * (high - low)), name
        assert np.ptp(result.clusters[name]) > np.ptp(result.rows[name]), name


def test_flows_that_stand_alone_are_drawn_as_rows_and_keep_their_number() -> None:
    true_ids, predicted_ids = verdicts(400)
    alone = np.full(400, ALONE)
    alone[:2] = [5, 9]
    result = bootstrap(true_ids, predicted_ids, LABELS, 0, clusters=alone, num_resamples=4000)
    assert result.clusters is not None
    low, high = result.rows["accuracy"]
    assert result.clusters["accuracy"] == pytest.approx((low, high), abs=0.1 * (high - low))


def test_a_single_cluster_has_no_interval() -> None:
    true_ids, predicted_ids = verdicts(50)
    result = bootstrap(
        true_ids, predicted_ids, LABELS, 0, clusters=np.zeros(50, dtype=np.int64), num_resamples=10
    )
    assert result.clusters is None


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others() -> None:
    true_ids, predicted_ids = verdicts(200)
    first, again, other = (
        bootstrap(true_ids, predicted_ids, LABELS, None, seed=seed, num_resamples=50) for seed in (3, 3, 4)
    )
    assert first == again
    assert first.rows != other.rows


def test_intervals_do_not_depend_on_the_order_of_flows() -> None:
    true_ids, predicted_ids = verdicts(200)
    order = np.random.default_rng(0).permutation(200)
    clusters = np.arange(200) % 7
    forward = bootstrap(true_ids, predicted_ids, LABELS, 0, clusters=clusters, num_resamples=50)
    shuffled = bootstrap(
        true_ids[order], predicted_ids[order], LABELS, 0, clusters=clusters[order], num_resamples=50
    )
    assert forward == shuffled


def test_perfect_verdicts_have_an_interval_of_width_zero() -> None:
    true_ids, _ = verdicts(100)
    assert bootstrap(true_ids, true_ids, LABELS, 0, num_resamples=50).rows["accuracy"] == (1.0, 1.0)
