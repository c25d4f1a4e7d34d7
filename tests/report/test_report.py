import json
from dataclasses import replace
from pathlib import Path

import pytest

from wirebert.errors import RunError
from wirebert.report.report import Report, read_json, write_json


def test_a_report_survives_the_trip_through_its_file(report: Report, tmp_path: Path) -> None:
    write_json(report, tmp_path / "report.json")
    assert read_json(tmp_path / "report.json") == report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_file_has_the_promised_shape(report: Report, tmp_path: Path) -> None:
    write_json(report, tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    test = data["splits"]["test"]
    assert {"num_flows", "headline", "confusion"} <= set(test)
    assert set(test["headline"]) == {"accuracy", "macro_f1", "weighted_f1", "binary_accuracy"}
    assert set(test["per_class"]["dos"]) == {"precision", "recall", "f1", "accuracy", "support"}
    assert test["confusion"]["labels"] == ["normal", "dos", "<b>probe", "worm"]
    assert sum(map(sum, test["confusion"]["matrix"])) == test["num_flows"]
    for kind in ("rows", "clusters"):
        low, high = test["intervals"][kind]["accuracy"]
        assert low <= test["headline"]["accuracy"] <= high
    assert set(data["baselines"]["gbdt"]["splits"]["test"]) == set(test)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"format_version": 99}', '{"format_version": 1}'])
def test_what_is_no_report_is_refused_by_name(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(RunError, match=r"report\.json"):
        read_json(tmp_path / "report.json")


def test_a_run_without_baseline_has_no_trees(report: Report) -> None:
    assert report.trees("test") is not None
    assert report.trees("elsewhere") is None


def test_another_baseline_is_not_taken_for_trees(report: Report) -> None:
    taught = replace(report, baselines={"teacher": report.baselines["gbdt"]})
    assert taught.trees("test") is None
