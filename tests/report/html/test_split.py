from dataclasses import replace

from wirebert.report.html.split import alert_table, class_table, error_list, split_section
from wirebert.report.report import Report


def test_thresholds_say_where_they_come_from(report: Report) -> None:
    metrics = report.splits["test"]
    here = alert_table("test", metrics)
    assert "fitted on the same flows of test" in here
    assert "best threshold for this file" not in here
    elsewhere = alert_table("test", replace(metrics, thresholds_from="valid"))
    assert "fitted on the benign flows of valid" in elsewhere
    assert "best threshold for this file" in elsewhere


def test_precision_is_restated_for_rare_attacks_and_a_dash_marks_unknown_values(
    report: Report,
) -> None:
    metrics = report.splits["test"]
    point = metrics.operating_points[0]
    one = replace(
        point,
        fpr=0.01,
        tpr=0.5,
        precision_at_prevalence={"0.01": 0.336, "0.001": 0.0477},
        precision=0.9,
    )
    none = replace(one, fpr=0.0, precision_at_prevalence={"0.01": None, "0.001": None})
    html = alert_table("test", replace(metrics, operating_points=(one, none)))
    row = html.split("precision if 0.1 % of the flows are attacks</th>")[1].split("</tr>")[0]
    assert row == "<td>4.8 %</td><td>-</td>"
    # 10,000 flows, 10 of them attacks: 5 detected, and 99.9 false positives.
    row = html.split("alerts per 10,000 flows if 0.1 % are attacks</th>")[1].split("</tr>")[0]
    assert row == "<td>104.9</td><td>-</td>"


def test_an_error_shows_its_flow_with_the_main_evidence_first(report: Report) -> None:
    html = error_list(report.splits["test"].mistakes)
    assert "<b>dos</b> classified as <b>normal</b>" in html
    assert "probability 99.00 %, row 7, label &lt;i&gt;back" in html
    assert ": src_bytes 1.25" in html
    assert html.index("src_bytes</dt><dd>181") < html.index("service</dt><dd>&lt;u&gt;http")


def test_every_class_has_its_row_with_the_baseline_beside_it(report: Report) -> None:
    html = class_table("test", report.splits["test"], report.trees("test"))
    for label, own in report.splits["test"].per_class.items():
        assert label.replace("<", "&lt;").replace(">", "&gt;") in html
        assert f"{own.f1:.3f} <span" in html
    assert "F1 of trees" in html


def test_another_baseline_than_trees_has_no_column_among_the_classes(report: Report) -> None:
    metrics, trees = report.splits["test"], report.trees("test")
    assert trees is not None
    assert "F1 of trees" in split_section("test", metrics, {"gbdt": trees}, {})
    assert "F1 of trees" not in split_section("test", metrics, {"teacher": trees}, {})


def test_a_split_without_scores_has_no_sections_about_them(report: Report) -> None:
    lean = replace(report.splits["test"], operating_points=(), curves=None, calibration=None, mistakes=())
    html = split_section("test", lean, {}, {})
    assert "Alert thresholds" not in html
    assert "errors" not in html
    assert "Classes" in html
