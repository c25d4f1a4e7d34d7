import numpy as np
import pytest
from sklearn.metrics import f1_score

from wirebert.metrics.significance import LabelledRows
from wirebert.metrics.student_gap import SplitGap, TeacherGap, gap_remarks, gap_rows, split_gap
from wirebert.serialization import from_builtins, to_builtins

TRUE = np.array([0, 0, 0, 1, 1, 2] * 20)
TEACHER = np.array([0, 0, 1, 1, 1, 2] * 20)
STUDENT = np.array([0, 0, 0, 1, 2, 2] * 20)


def gap(student: np.ndarray = STUDENT, clusters: np.ndarray | None = None) -> SplitGap:
    judged = LabelledRows(true_ids=TRUE, num_labels=3, benign=0, clusters=clusters)
    return split_gap(judged, student, TEACHER, seed=1, num_resamples=200)


def whole(own: SplitGap, *, is_fresh: bool = True) -> TeacherGap:
    return TeacherGap(
        teacher="run/model", teacher_parameters=10, num_unlabelled=3, is_fresh=is_fresh, splits={"valid": own}
    )


def test_agreement_is_the_share_of_flows_of_the_same_class():
    assert gap().agreement == pytest.approx(4 / 6)


def test_both_macro_f1_are_scikit_learns():
    macro = gap().metrics["macro_f1"]
    assert macro.student == pytest.approx(f1_score(TRUE, STUDENT, average="macro"))
    assert macro.teacher == pytest.approx(f1_score(TRUE, TEACHER, average="macro"))
    assert macro.difference == pytest.approx(macro.student - macro.teacher)


def test_a_student_that_says_what_its_teacher_says_is_surely_no_different():
    macro = gap(TEACHER).metrics["macro_f1"]
    assert (macro.difference, macro.rows) == (0.0, (0.0, 0.0))


def test_the_interval_of_the_difference_holds_it():
    macro = gap().metrics["macro_f1"]
    assert macro.rows is not None
    assert macro.rows[0] < macro.difference < macro.rows[1]
    assert macro.clusters is None


def test_attack_names_are_drawn_whole_where_there_are_several():
    clusters = np.where(TRUE == 0, -1, np.arange(len(TRUE)) % 5)
    assert gap(clusters=clusters).metrics["macro_f1"].clusters is not None


def test_a_split_without_flows_has_no_figures():
    none = np.empty(0, np.int64)
    judged = LabelledRows(true_ids=none, num_labels=3, benign=0)
    own = split_gap(judged, none, none, seed=1, num_resamples=100)
    assert (own.num_flows, own.agreement, own.metrics) == (0, None, {})
    assert gap_remarks(whole(own), "valid") == []


def test_a_row_for_people_has_both_and_the_difference_with_its_sign():
    (row,) = gap_rows(gap(), {"macro_f1": "macro F1"})
    assert row[0] == "macro F1"
    assert float(row[1]) - float(row[2]) == pytest.approx(float(row[3]), abs=0.0011)
    assert row[3][0] in "+-"


def test_it_is_said_where_the_teacher_may_have_seen_the_validation_flows():
    assert len(gap_remarks(whole(gap()), "valid")) == 1
    assert "may have seen these flows" in gap_remarks(whole(gap(), is_fresh=False), "valid")[-1]


def test_a_report_keeps_it():
    own = whole(gap())
    assert from_builtins(TeacherGap, to_builtins(own)) == own
