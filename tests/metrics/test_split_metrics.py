import json
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from wirebert.metrics.split_metrics import (
    NUM_MISTAKES,
    PER_CONFUSION,
    FittedThresholds,
    SplitMetrics,
    compute_metrics,
    most_confident_errors,
)
from wirebert.metrics.thresholds import fit_threshold
from wirebert.serialization import from_builtins

ZERO = cast(str, 0)  # the stubs only know "warn"
CLASSES = ("normal", "dos", "probe")


def draw(
    seed: int, num_flows: int, num_classes: int, num_extra: int = 0, decimals: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true_ids = rng.integers(0, num_classes + num_extra, num_flows)
    hint = np.eye(num_classes + num_extra)[true_ids][:, :num_classes]
    probabilities = rng.dirichlet(np.ones(num_classes), num_flows) + rng.random((num_flows, 1)) * hint
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).round(decimals)
    return true_ids, probabilities


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 5), st.integers(0, 2))
def test_headline_figures_equal_scikit_learns(
    seed: int, num_flows: int, num_classes: int, num_extra: int
) -> None:
    true_ids, probabilities = draw(seed, num_flows, num_classes, num_extra)
    classes = tuple(f"c{i}" for i in range(num_classes))
    extra = tuple(f"x{i}" for i in range(num_extra))
    result = compute_metrics(true_ids, probabilities, classes, None, extra_classes=extra, num_resamples=2)
    predicted = probabilities.argmax(axis=1)
    assert result.accuracy == pytest.approx(sk.accuracy_score(true_ids, predicted))
    for average in ("macro", "weighted"):
        expected = sk.f1_score(true_ids, predicted, average=average, zero_division=ZERO)
        assert result.headline[f"{average}_f1"] == pytest.approx(expected)
    labels = list(range(num_classes + num_extra))
    assert (
        np.array(result.confusion.matrix) == sk.confusion_matrix(true_ids, predicted, labels=labels)
    ).all()
    assert result.binary is None


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_per_class_figures_equal_scikit_learns(seed: int, num_flows: int) -> None:
    true_ids, probabilities = draw(seed, num_flows, 3)
    result = compute_metrics(true_ids, probabilities, CLASSES, "normal", num_resamples=2)
    predicted = probabilities.argmax(axis=1)
    expected = sk.precision_recall_fscore_support(true_ids, predicted, labels=[0, 1, 2], zero_division=ZERO)
    for position, figures in enumerate(result.per_class.values()):
        ours = (figures.precision, figures.recall, figures.f1, figures.support)
        assert ours == pytest.approx(tuple(cast(np.ndarray, column)[position] for column in expected))
        assert figures.accuracy == pytest.approx(
            sk.accuracy_score(true_ids == position, predicted == position)
        )


@given(st.integers(0, 10_000), st.integers(20, 200), st.sampled_from([1, 6]))
def test_attack_or_not_figures_equal_scikit_learns(seed: int, num_flows: int, decimals: int) -> None:
    # One decimal makes many equal scores, which is where rankings go wrong.
    true_ids, probabilities = draw(seed, num_flows, 3, decimals=decimals)
    true_ids[:2] = [0, 1]
    result = compute_metrics(true_ids, probabilities, CLASSES, "normal", num_resamples=2).binary
    assert result is not None
    is_attack, scores = true_ids != 0, 1.0 - probabilities[:, 0]
    alarm = probabilities.argmax(axis=1) != 0
    assert result.accuracy == pytest.approx(sk.accuracy_score(is_attack, alarm))
    assert result.precision == pytest.approx(sk.precision_score(is_attack, alarm, zero_division=ZERO))
    assert result.recall == pytest.approx(sk.recall_score(is_attack, alarm))
    assert result.f1 == pytest.approx(sk.f1_score(is_attack, alarm, zero_division=ZERO))
    assert result.false_positive_rate == pytest.approx(float(alarm[~is_attack].mean()))
    assert result.auroc == pytest.approx(sk.roc_auc_score(is_attack, scores))
    assert result.average_precision == pytest.approx(sk.average_precision_score(is_attack, scores))
    fpr, tpr, _ = sk.roc_curve(is_attack, scores, drop_intermediate=False)
    for rate, detection in result.tpr_at_fpr.items():
        assert detection == pytest.approx(tpr[fpr <= float(rate)].max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_equals_scikit_learns_even_for_a_probability_of_zero(dtype: type) -> None:
    true_ids = np.array([0, 1, 2, 1])
    probabilities = np.array([[1, 0, 0], [0.5, 0.25, 0.25], [0, 0.9, 0.1], [1, 0, 0]], dtype=dtype)
    result = compute_metrics(true_ids, probabilities, CLASSES, "normal", num_resamples=2)
    assert result.loss == pytest.approx(sk.log_loss(true_ids, probabilities, labels=[0, 1, 2]), rel=1e-6)


def test_flows_of_a_class_training_lacks_are_wrong_and_listed() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])
    result = compute_metrics(
        np.array([0, 3, 3]), probabilities, CLASSES, "normal", extra_classes=("worm",), num_resamples=2
    )
    assert result.classes_not_in_training == {"worm": 2}
    assert result.accuracy == pytest.approx(1 / 3)
    assert result.per_class["worm"].recall == 0.0
    assert result.headline["binary_accuracy"] == pytest.approx(
        2 / 3
    )  # an unknown attack told to be an attack is found
    assert result.loss == pytest.approx(-np.log(0.8))  # of the one flow whose class has a probability


def test_the_figures_of_a_file_without_benign_flows_are_numbers_or_none() -> None:
    result = compute_metrics(np.array([1, 2]), np.eye(3)[[1, 0]], CLASSES, "normal", num_resamples=2)
    assert result.binary is not None
    assert result.binary.auroc is None
    assert result.binary.false_positive_rate == 0.0
    assert set(result.binary.tpr_at_fpr) == {"0.01", "0.001", "0.0001"}
    assert set(result.binary.tpr_at_fpr.values()) == {None}


def test_an_empty_split_has_figures_too() -> None:
    result = compute_metrics(np.empty(0, dtype=np.int64), np.empty((0, 3)), CLASSES, "normal")
    assert (result.num_flows, result.accuracy, result.loss, result.intervals) == (0, 0.0, None, None)


@pytest.mark.parametrize("benign", ["normal", None])
def test_metrics_survive_the_trip_through_a_file(benign: str | None) -> None:
    true_ids, probabilities = draw(0, 50, 3, 1)
    result = compute_metrics(
        true_ids,
        probabilities,
        CLASSES,
        benign,
        extra_classes=("worm",),
        clusters=true_ids % 3,
        num_resamples=20,
    )
    text = json.dumps(result.to_json(), allow_nan=False)
    assert from_builtins(SplitMetrics, json.loads(text)) == result
    assert ("binary_accuracy" in json.loads(text)["headline"]) == (benign is not None)


def test_flows_seen_in_training_and_others_have_figures_of_their_own():
    true, probabilities = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    is_seen = np.array([True, False, True, False])
    found = compute_metrics(
        true, probabilities, ("ok", "scan"), "ok", is_seen=is_seen, num_resamples=100
    ).train_overlap
    assert found is not None
    # Seen: both right. Others: one right of two; F1 of "ok" 2/3, of "scan" 0.
    assert (found.seen.num_flows, found.seen.accuracy, found.seen.macro_f1) == (2, 1.0, 1.0)
    assert (found.unseen.num_flows, found.unseen.accuracy) == (2, 0.5)
    assert found.unseen.macro_f1 == pytest.approx(1 / 3)


def test_thresholds_of_another_split_are_tried_as_they_are() -> None:
    true_ids, probabilities = draw(0, 200, 3)
    given = FittedThresholds("valid", (fit_threshold(np.array([0.1, 0.9]), np.array([False, True]), 0.01),))
    found = compute_metrics(true_ids, probabilities, CLASSES, "normal", thresholds=given, num_resamples=2)
    assert [point.threshold for point in found.operating_points] == [given.limits[0].threshold]
    assert found.operating_points[0].tpr == pytest.approx(
        (1 - probabilities[true_ids != 0, 0] >= given.limits[0].threshold).mean()
    )
    assert found.thresholds_from == "valid"
    assert (
        compute_metrics(true_ids, probabilities, CLASSES, "normal", num_resamples=2).thresholds_from is None
    )


def test_joined_scores_move_alarms_and_nothing_else() -> None:
    rng = np.random.default_rng(3)
    true_ids = rng.integers(0, 2, 400)
    probabilities = rng.dirichlet(np.ones(2), 400)
    joined = rng.gamma(2, 2, 400) + 3 * true_ids
    plain, found = (
        compute_metrics(true_ids, probabilities, ("ok", "scan"), "ok", alert_scores=scores, num_resamples=2)
        for scores in (None, joined)
    )
    assert (plain.alert_score, found.alert_score) == ("attack", "attack_and_novelty")
    assert found.binary is not None
    assert found.binary.auroc == pytest.approx(sk.roc_auc_score(true_ids, joined))
    assert found.curves is not None
    assert found.curves.attack is not None
    assert found.curves.attack.auroc == found.binary.auroc
    benign = np.sort(joined[true_ids == 0])[::-1]
    expected = (joined[true_ids == 1] > benign[int(0.01 * len(benign))]).mean()
    assert found.binary.tpr_at_fpr["0.01"] == pytest.approx(expected)
    assert found.operating_points[0].tpr == pytest.approx(expected)
    same = ("accuracy", "per_class", "confusion", "calibration", "score_histogram", "loss")
    assert all(getattr(found, name) == getattr(plain, name) for name in same)


def choose(probabilities: list[float], confusions: list[int], hashes: list[int]) -> list[int]:
    arrays = np.array(probabilities), np.array(confusions, dtype=np.int64), np.array(hashes, dtype=np.uint64)
    return most_confident_errors(*arrays).tolist()


def test_the_surest_come_first_and_of_equals_the_first() -> None:
    assert choose([0.5, 0.9, 0.7, 0.9], [0, 1, 2, 3], [1, 2, 3, 4]) == [1, 3, 2, 0]


def test_flows_that_look_alike_are_shown_once_per_confusion() -> None:
    assert choose([0.5, 0.9, 0.8, 0.7], [0, 0, 0, 1], [7, 7, 8, 7]) == [1, 2, 3]


def test_no_confusion_takes_all_places() -> None:
    many = 100
    chosen = choose([0.9] * many + [0.1], [0] * many + [1], list(range(many + 1)))
    assert chosen == [*range(PER_CONFUSION), many]
    assert len(choose([0.5] * 300, list(range(300)), list(range(300)))) == NUM_MISTAKES


def test_without_mistakes_none_is_chosen() -> None:
    assert choose([], [], []) == []
