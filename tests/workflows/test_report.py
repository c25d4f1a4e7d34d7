import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from wirebert.config import resolve_run
from wirebert.data.checks.checks import Finding
from wirebert.data.flows import open_flows
from wirebert.report.report import read_json
from wirebert.workflows.report import default_name, finding_lines, show_data, show_report, split_names

SPLITS = ("valid", "test")


@pytest.fixture
def report(trained: Path) -> dict[str, Any]:
    return json.loads((trained / "report.json").read_text(encoding="utf-8"))


def verdicts(trained: Path, split: str) -> pa.Table:
    return parquet.read_table(trained / "predictions" / f"{split}.parquet")


def texts(table: pa.Table, column: str) -> list[str]:
    return [str(value) for value in table.column(column).to_pylist()]


@pytest.mark.slow
def test_the_report_has_the_promised_shape(report: dict[str, Any]) -> None:
    assert list(report["splits"]) == list(SPLITS)
    for split in report["splits"].values():
        assert isinstance(split["loss"], float)
        assert set(split["headline"]) == {"accuracy", "macro_f1", "weighted_f1", "binary_accuracy"}
        assert {"accuracy", "macro_f1", "weighted_f1", "binary_accuracy"} <= set(split["intervals"]["rows"])
        assert isinstance(split["num_flows"], int)
        for figures in split["per_class"].values():
            assert set(figures) >= {"precision", "recall", "f1", "accuracy", "support"}
        num_labels = len(split["confusion"]["labels"])
        assert np.array(split["confusion"]["matrix"]).shape == (num_labels, num_labels)
    assert {"command", "seed", "versions", "hardware", "settings", "timing"} <= set(report)
    keys = [*report, *report["timing"], *report["training"], *report["baselines"]]
    assert [key for key in keys if not re.fullmatch("[a-z0-9_]+", key)] == []
    assert report["baselines"]["gbdt"]["splits"].keys() == report["splits"].keys()


def test_the_report_says_how_the_training_went(report: dict[str, Any]) -> None:
    told = report["training"]
    assert list(told)[:4] == ["parameters", "best_step", "evaluations", "stopped_early"]
    assert told["flows_per_second"] > 0
    assert told["input_pipeline"].startswith("the main process, from memory (")


@pytest.mark.slow
def test_a_label_that_training_lacks_is_counted_wrong_and_listed(
    report: dict[str, Any], trained: Path
) -> None:
    table, test = verdicts(trained, "test"), report["splits"]["test"]
    true, predicted = texts(table, "true_class"), texts(table, "predicted_class")
    assert true.count("novel") == 20
    assert "novel" not in predicted
    assert test["num_flows"] == len(true) == 300  # the twenty are among them
    assert test["classes_not_in_training"] == {"novel": 20}
    assert test["per_class"]["novel"]["recall"] == 0
    screen = io.StringIO()
    show_report(read_json(trained / "report.json"), None, Console(file=screen, width=80))
    assert "not in training, always wrong here: novel (20)." in screen.getvalue()


@pytest.mark.slow
def test_predictions_name_the_row_of_the_file_and_its_label(trained: Path, traffic: Path) -> None:
    table = verdicts(trained, "valid")
    lines = (traffic / "train.csv").read_text(encoding="utf-8").splitlines()[1:]
    for row, uid, label in zip(
        table.column("row").to_pylist(), texts(table, "uid"), texts(table, "label"), strict=True
    ):
        assert isinstance(row, int)
        assert lines[row].split(",")[1] == uid
        assert lines[row].rpartition(",")[2] == label


@pytest.mark.slow
def test_pages_charts_and_card_stand_beside_the_figures(trained: Path, report: dict[str, Any]) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "udp_amplification" in page
    assert not any(word in page for word in ("<script src", "https://cdn", "<link "))
    plots = {path.stem for path in (trained / "plots").glob("*.svg")}
    assert {"loss", "learning_rates", "confusion_valid", "confusion_test", "f1_valid", "f1_test"} <= plots
    assert plots == {path.stem for path in (trained / "plots").glob("*.png")}
    card = (trained / "model" / "README.md").read_text(encoding="utf-8")
    assert "### test: 300 flows" in card
    assert f"| {report['splits']['test']['headline']['accuracy']:.3f} [" in card


def finding(code: str, column: str | None, count: int, **more: Any) -> Finding:
    named: dict[str, Any] = {"severity": "warning", "message": f"{code} in {column}", "example": ""} | more
    return Finding(code=code, column=column, count=count, **named)


def test_columns_with_missing_values_share_a_line_per_severity() -> None:
    findings = [
        finding("missing_values", "uri", 77, severity="error"),
        finding("constant_column", "land", 100),
        finding("missing_values", "user_agent", 77),
        finding("duplicate_rows", None, 3),
        finding("missing_values", "host", 60),
    ]
    assert finding_lines(findings, 100) == [
        "error: missing_values in uri",  # one alone says it in full
        "warning: constant_column in land",
        "warning: columns with missing values: user_agent 77 %, host 60 %; missing is learned as a separate "
        "value, so check that it does not just identify the source of a row",
        "warning: duplicate_rows in None",
    ]


def test_what_is_information_or_accepted_is_only_counted(tmp_path: Path) -> None:
    (tmp_path / "flows.csv").write_text("proto,bytes,label\n" + "tcp,1,a\nudp,2,b\n" * 20)
    findings = [finding("x", "proto", 1), finding("y", None, 1, severity="info")]
    findings.append(replace(findings[0], code="z", message="known", is_accepted=True))
    screen = io.StringIO()
    flows = open_flows(tmp_path / "flows.csv")
    show_data(flows, {"a": 20, "b": 20}, findings, Console(file=screen, width=40), num_rows=40)
    lines = screen.getvalue().splitlines()
    assert lines[0].startswith(
        "flows: utf-8, comma-separated, header; schema flows, 3 columns, 2 of them features"
    )
    assert lines[1].startswith("classes: a 20 (50.00%), b 20 (50.00%)")
    assert lines[2:] == [
        "warning: x in proto",
        "2 informational or accepted findings hidden; `wirebert inspect` shows all",
    ]


@pytest.mark.parametrize(
    ("stems", "names"),
    [
        (["valid"], ["test"]),
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a-2"], ["a", "a-2", "a-2-2"]),
        (["train", "valid", "held_out", "test"], ["train-2", "valid-2", "held_out-2", "test"]),
    ],
)
def test_no_two_splits_have_one_name(stems: list[str], names: list[str]) -> None:
    assert split_names([f"{place}.csv" for place in range(len(stems))], stems) == names


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("x/KDDTrain+.txt.gz", "KDDTrain+"),
        ("flows", "flows"),
        ("a/b/", "b"),
        ("/", "run"),
        (".hidden", "run"),
    ],
)
def test_a_run_is_called_by_its_data(data: str, name: str) -> None:
    assert default_name(data) == name


@pytest.mark.slow
def test_the_report_repeats_the_settings_of_the_run(trained: Path, report: dict[str, Any]) -> None:
    assert resolve_run(given=report["settings"]) == resolve_run(trained / "run.toml")
