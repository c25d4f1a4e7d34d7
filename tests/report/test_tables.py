"""Metrics as tables for papers."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from wirebert.report.report import Report, read_json
from wirebert.report.tables import as_csv, as_latex, latex


@pytest.fixture(scope="module")
def whole(trained: Path) -> Report:
    return read_json(trained / "report.json")


def test_every_figure_of_report_json_is_in_the_csv(whole: Report):
    rows = list(csv.DictReader(io.StringIO(as_csv(whole))))
    own = {(row["split"], row["class"], row["metric"]): row for row in rows if row["method"] == "wirebert"}
    for split, metrics in whole.splits.items():
        for metric, value in metrics.headline.items():
            row = own[split, "", metric]
            assert float(row["value"]) == value
            assert metrics.intervals is not None
            if metric in metrics.intervals.rows:
                assert (float(row["low"]), float(row["high"])) == tuple(metrics.intervals.rows[metric])
        for name, row in metrics.per_class.items():
            assert float(own[split, name, "recall"]["value"]) == row.recall
    assert {row["method"] for row in rows} == {"wirebert", "boosted trees"}


def test_a_class_that_a_spreadsheet_would_execute_is_defused(whole: Report):
    metrics = whole.splits["test"]
    odd = replace(metrics, per_class={"=cmd()": metrics.per_class["benign"]})
    assert ",'=cmd()," in as_csv(replace(whole, splits={"test": odd}))


def test_latex_has_a_line_per_metric_and_a_column_per_method(whole: Report):
    tables = as_latex(whole).split("\\begin{tabular}")[1:]
    assert len(tables) == len(whole.splits)
    lines = [line for line in tables[-1].splitlines() if line.endswith(r"\\")]
    assert lines[0] == r"metric & wirebert & boosted trees \\"
    assert len(lines) - 1 == len(whole.splits["test"].headline)
    assert f"{whole.splits['test'].headline['macro_f1']:.3f}" in "".join(lines)


@pytest.mark.parametrize(
    ("text", "escaped"), [("a_b & 5 %", r"a\_b \& 5 \%"), ("x\n{y}", r"x \{y\}"), ("\\", r"\textbackslash{}")]
)
def test_what_latex_gives_a_meaning_is_escaped(text: str, escaped: str):
    assert latex(text) == escaped
