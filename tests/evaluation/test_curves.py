import numpy as np
import pytest

from wirebert.evaluation.curves import OperatingCurve


def curve(attacks: list[float], benign: list[float]) -> OperatingCurve:
    return OperatingCurve.of(np.array(attacks + benign), np.arange(len(attacks + benign)) < len(attacks))


def test_equal_scores_raise_the_alarm_together() -> None:
    # The threshold that finds the second attack costs both benign flows.
    tied = curve([0.9, 0.5], [0.5, 0.5])
    assert tied.num_found.tolist() == [0, 1, 2]
    assert tied.num_false.tolist() == [0, 0, 2]
    assert tied.detection_at(0.99) == 0.5


def test_detection_at_a_rate_that_allows_no_false_alarm() -> None:
    assert curve([0.9, 0.8, 0.1], [0.5, 0.2]).detection_at(0.01) == pytest.approx(2 / 3)


def test_a_file_of_one_kind_has_no_curve_figures() -> None:
    assert curve([], [0.5]).auroc is None
    assert curve([], [0.5]).average_precision is None
    assert curve([0.5], []).detection_at(0.01) is None
    assert curve([0.5], []).average_precision == 1.0


def test_order_of_flows_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores, is_attack = rng.random(100).round(1), rng.random(100) < 0.3
    order = rng.permutation(100)
    assert (
        OperatingCurve.of(scores, is_attack).auroc == OperatingCurve.of(scores[order], is_attack[order]).auroc
    )
