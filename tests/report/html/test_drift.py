from wirebert.report.columns import ColumnDrift
from wirebert.report.html.drift import drift_section

ONE = ColumnDrift(column="<b>_x", distance=0.25, bins=("<i>", "other"), train=(0.75, 0.25), test=(0.5, 0.5))


def test_each_column_has_bars_of_both_files_and_words():
    html = str(drift_section([ONE, ONE]))
    assert html.count('<rect class="train"') == html.count('<rect class="test"') == 4
    assert "75% in training data, 50% in test data" in html
    assert "distance 0.25" in html
    assert "<i>" not in html
    assert "<b>" not in html


def test_more_than_nine_columns_are_opened_on_demand():
    assert "3 more columns" in str(drift_section([ONE] * 12))
    assert "more columns" not in str(drift_section([ONE] * 9))
    assert drift_section([]) == ""
