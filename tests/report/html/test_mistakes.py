import json
import re
from dataclasses import replace
from html import unescape

from wirebert.report.columns import Columns, ColumnSummary
from wirebert.report.html.mistakes import explorer
from wirebert.report.report import Report

COLUMNS = Columns(typical={"dos": {"src_bytes": ColumnSummary(quantiles=(1.0, 2.0, 3.0))}})


def test_every_cell_with_flows_is_a_button_with_its_pair(report: Report):
    metrics = report.splits["test"]
    html = str(explorer("test", metrics, COLUMNS))
    pairs = [json.loads(unescape(text)) for text in re.findall(r'data-cell="([^"]*)"', html)]
    labels, matrix = metrics.confusion.labels, metrics.confusion.matrix
    assert pairs == [
        [labels[row], labels[column]]
        for row in range(len(labels))
        for column in range(len(labels))
        if matrix[row][column]
    ]


def test_the_data_hold_all_mistakes_and_what_is_usual(report: Report):
    html = str(explorer("test", report.splits["test"], COLUMNS))
    data = json.loads(re.search(r'id="flows-test">(.*?)</script>', html)[1])  # pyright: ignore
    assert [one["row"] for one in data["mistakes"]] == [7, 11]
    assert data["typical"]["dos"]["src_bytes"]["quantiles"] == [1, 2, 3]
    assert "<u>" not in html
    assert "<i>" not in html


def test_a_split_without_mistakes_has_no_explorer(report: Report):
    assert explorer("test", replace(report.splits["test"], mistakes=()), COLUMNS) == ""
