import numpy as np
import pytest

from wirebert.metrics.curves import HISTOGRAM_BINS, OperatingCurve, score_curves, score_histogram


def curve(attacks: list[float], benign: list[float]) -> OperatingCurve:
    return OperatingCurve.of(np.array(attacks + benign), np.arange(len(attacks + benign)) < len(attacks))


def test_equal_scores_raise_the_alarm_together() -> None:
    # The threshold that finds the second attack costs both benign flows.
    tied = curve([0.9, 0.5], [0.5, 0.5])
    assert tied.num_true_positives.tolist() == [0, 1, 2]
    assert tied.num_false_positives.tolist() == [0, 0, 2]
    assert tied.tpr_at_fpr(0.99) == 0.5


def test_detection_at_a_rate_that_allows_no_false_alarm() -> None:
    assert curve([0.9, 0.8, 0.1], [0.5, 0.2]).tpr_at_fpr(0.01) == pytest.approx(2 / 3)


def test_a_file_of_one_kind_has_no_curve_figures() -> None:
    assert curve([], [0.5]).auroc is None
    assert curve([], [0.5]).average_precision is None
    assert curve([0.5], []).tpr_at_fpr(0.01) is None
    assert curve([0.5], []).average_precision == 1.0


def test_order_of_flows_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores, is_attack = rng.random(100).round(1), rng.random(100) < 0.3
    order = rng.permutation(100)
    assert (
        OperatingCurve.of(scores, is_attack).auroc == OperatingCurve.of(scores[order], is_attack[order]).auroc
    )


def wobbly(num_flows: int, seed: int = 0) -> OperatingCurve:
    """Many thresholds, few equal scores, precision that goes up and down."""
    rng = np.random.default_rng(seed)
    is_attack = rng.random(num_flows) < 0.3
    return OperatingCurve.of(rng.normal(size=num_flows) + 1.5 * is_attack, is_attack)


def test_a_thinned_curve_has_few_points_and_all_of_them_are_points_of_the_whole() -> None:
    whole = wobbly(50_000)
    thin = whole.thinned(40)
    assert len(thin.thresholds) <= 3 * 40 + 4
    points = set(
        zip(
            whole.thresholds.tolist(),
            whole.num_true_positives.tolist(),
            whole.num_false_positives.tolist(),
            strict=True,
        )
    )
    assert set(zip(thin.thresholds, thin.num_true_positives, thin.num_false_positives, strict=True)) <= points
    assert (thin.num_true_positives[-1], thin.num_false_positives[-1]) == (
        whole.num_attacks,
        whole.num_benign,
    )
    assert (thin.auroc, thin.average_precision) == (whole.auroc, whole.average_precision)


def test_thinning_keeps_the_extremes_of_precision_in_every_stretch() -> None:
    whole = wobbly(20_000)
    thin, stretches = whole.thinned(30), 30
    found, false = whole.num_true_positives[1:], whole.num_false_positives[1:]
    precision = found / (found + false)
    stretch = found * stretches // whole.num_attacks
    kept = np.array(thin.num_true_positives) / (
        np.array(thin.num_true_positives) + np.array(thin.num_false_positives)
    )
    of_kept = np.array(thin.num_true_positives) * stretches // whole.num_attacks
    for number in np.unique(stretch):
        own = precision[stretch == number]
        assert kept[of_kept == number].max() == own.max()
        assert kept[of_kept == number].min() == own.min()


def test_thinning_keeps_what_is_found_at_low_false_positive_rates() -> None:
    whole = wobbly(100_000)
    thin = whole.thinned(80)
    for rate in (0.1, 0.01, 0.001, 0.0001):
        kept = max(
            f
            for f, n in zip(thin.num_true_positives, thin.num_false_positives, strict=True)
            if n <= rate * whole.num_benign
        )
        exact = whole.tpr_at_fpr(rate)
        assert exact is not None
        assert kept / whole.num_attacks == pytest.approx(exact, abs=0.02)


def test_a_curve_of_few_flows_is_kept_whole_and_one_of_none_is_empty() -> None:
    whole = wobbly(30)
    assert len(whole.thinned(200).thresholds) == len(whole.thresholds) - 1
    nothing = OperatingCurve.of(np.empty(0), np.empty(0, dtype=np.bool_)).thinned(10)
    assert nothing.thresholds == ()


def test_each_class_and_the_attack_score_have_a_curve() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    curves = score_curves(np.array([0, 1, 1]), probabilities, ("normal", "dos"), None)
    assert list(curves.classes) == ["normal", "dos"]
    assert curves.classes["dos"].thresholds == (0.8, 0.4, 0.1)
    assert curves.classes["dos"].num_true_positives == (1, 2, 2)
    assert curves.attack is None


def test_every_flow_is_in_the_bin_of_its_score_and_class() -> None:
    scores = np.random.default_rng(0).random(1000)
    scores[:2] = 0.0, 1.0
    ids = np.arange(1000) % 2
    found = score_histogram(scores, ids, ("normal", "dos", "absent"), "normal")
    assert found.benign == "normal"
    assert list(found.counts) == ["normal", "dos"]
    for number, name in enumerate(found.counts):
        expected, _ = np.histogram(scores[ids == number], HISTOGRAM_BINS, (0, 1))
        assert list(found.counts[name]) == expected.tolist()
