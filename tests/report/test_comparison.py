import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from wirebert.metrics.intervals import ALONE
from wirebert.metrics.registry import TPR_AT_1PCT_FPR
from wirebert.metrics.significance import LabelledRows, holm
from wirebert.report.comparison import Predictions, SplitComparison, compare_methods

RNG = np.random.default_rng(3)
TRUE = RNG.integers(0, 3, 300)
CLUSTERS = np.where(TRUE == 0, ALONE, RNG.integers(0, 6, 300))
JUDGED = LabelledRows(true_ids=TRUE, num_labels=3, benign=0, clusters=CLUSTERS)


def contender(name: str, share_wrong: float, seeds: int) -> Predictions:
    predicted = np.where(RNG.random((seeds, 300)) < share_wrong, (TRUE + 1) % 3, TRUE)
    return Predictions(name=name, predicted=predicted, scores=(predicted != 0) + RNG.random((seeds, 300)))


GOOD, BAD, ALIKE = contender("good", 0.1, 3), contender("bad", 0.5, 3), contender("alike", 0.1, 3)


def compared(*contenders: Predictions) -> SplitComparison:
    return compare_methods("test", JUDGED, contenders, ["accuracy", TPR_AT_1PCT_FPR], num_resamples=200)


def test_a_standing_is_the_mean_over_seeds_inside_its_intervals() -> None:
    found = compared(GOOD, BAD).estimates["good"]["accuracy"]
    values = [accuracy_score(TRUE, predicted) for predicted in GOOD.predicted]
    assert found.value == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert set(found.intervals) == {"rows", "clusters", "seeds"}
    for low, high in found.intervals.values():
        assert low <= found.value <= high


def test_the_first_is_set_against_each_other_one() -> None:
    differences = compared(GOOD, BAD, ALIKE).differences
    assert [(d.first, d.second, d.metric) for d in differences] == [
        ("good", "bad", "accuracy"),
        ("good", "bad", TPR_AT_1PCT_FPR),
        ("good", "alike", "accuracy"),
        ("good", "alike", TPR_AT_1PCT_FPR),
    ]
    against_bad, against_alike = differences[0], differences[2]
    assert against_bad.intervals["rows"].p < 0.01 < 0.05 < against_alike.intervals["rows"].p
    assert against_bad.intervals["seeds"].p == pytest.approx(2 / 20)  # 3 seeds each: 20 ways to swap them
    low, high = against_alike.intervals["rows"].interval
    assert low < 0 < high


def test_one_seed_has_no_spread_over_seeds() -> None:
    one = Predictions(name="one", predicted=GOOD.predicted[:1])
    found = compare_methods("test", JUDGED, [one, BAD], ["accuracy"], num_resamples=50)
    assert found.estimates["one"]["accuracy"].std is None
    assert set(found.estimates["one"]["accuracy"].intervals) == {"rows", "clusters"}
    assert "seeds" not in found.differences[0].intervals


def test_rows_without_clusters_are_resampled_by_rows_only() -> None:
    judged = LabelledRows(true_ids=TRUE, num_labels=3, benign=0)
    found = compare_methods("test", judged, [GOOD, BAD], ["accuracy"], num_resamples=50)
    assert found.num_clusters == 0
    assert set(found.differences[0].intervals) == {"rows", "seeds"}


def test_the_correction_counts_the_differences_in_one_figure() -> None:
    against_bad, _, against_alike, _ = compared(GOOD, BAD, ALIKE).differences
    low, high = against_bad.intervals["rows"], against_alike.intervals["rows"]
    assert low.p < high.p
    assert low.p_holm == pytest.approx(2 * low.p)  # the smaller of two
    assert high.p_holm == pytest.approx(max(high.p, 2 * low.p))


def test_each_class_has_its_f1_by_every_method_and_the_differences_of_the_pairs() -> None:
    judged = LabelledRows(true_ids=TRUE, num_labels=4, benign=0, clusters=CLUSTERS)
    names = ["normal", "dos", "probe", "never"]
    found = compare_methods(
        "test", judged, [GOOD, BAD, ALIKE], ["accuracy"], classes=names, num_resamples=200
    )
    assert list(found.classes) == names[:3]  # "never" has no flows
    for label, own in enumerate(found.classes.values()):
        expected = [f1_score(TRUE, row, labels=[label], average="macro") for row in BAD.predicted]
        assert own.num_flows == np.count_nonzero(label == TRUE)
        assert own.estimates["bad"].value == pytest.approx(np.mean(expected))
        assert set(own.estimates["bad"].intervals) == {"rows", "clusters", "seeds"}
    assert [(d.class_name, d.second) for d in found.class_differences] == [
        (name, second) for name in names[:3] for second in ("bad", "alike")
    ]
    dos = found.class_differences[2]
    standings = found.classes["dos"].estimates
    assert dos.value == pytest.approx(standings["good"].value - standings["bad"].value)
    assert set(found.estimates["good"]) == set(compared(GOOD, BAD).estimates["good"])
    drawn = [d.intervals["rows"] for d in found.class_differences]
    assert [way.p_holm for way in drawn] == holm([way.p for way in drawn])  # all classes are one family


def test_class_figures_are_for_those_who_name_the_classes() -> None:
    found = compared(GOOD, BAD)
    assert (found.classes, found.class_differences) == ({}, ())
