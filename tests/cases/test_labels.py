"""The cases label-spelling, benign-names and label-sibling: no benign row counts as an attack in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wirebert.cli.main import main
from wirebert.data.schema.label_names import means_benign

CASES = Path(__file__).resolve().parent
Inspect = Callable[..., dict[str, Any]]
Evaluate = Callable[..., dict[str, Any]]
SAME_NAMES = CASES / "absent-columns" / "same-names.csv"


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Inspect:
    """`wirebert inspect --json` of a case."""

    def run(case: str, *options: str) -> dict[str, Any]:
        assert main(["inspect", str(CASES / case), "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def evaluate(cases_model: Path, tmp_path: Path) -> Evaluate:
    """report.json of `wirebert evaluate` with the model of absent-columns/train.csv."""

    def run(file: Path, *options: str) -> dict[str, Any]:
        out = tmp_path / "report"
        assert main(["evaluate", str(cases_model), str(file), "--out", str(out), *options]) == 0
        return json.loads((out / "report.json").read_text(encoding="utf-8"))

    return run


def codes(report: dict[str, Any]) -> dict[str, str]:
    """Finding -> its message."""
    return {finding["code"]: finding["message"] for finding in report["findings"]}


def features(report: dict[str, Any]) -> list[str]:
    return [column["name"] for column in report["columns"] if column["is_feature"]]


def relabelled(path: Path, names: dict[str, str]) -> Path:
    """same-names.csv under other labels, in a new file."""
    head, *rows = SAME_NAMES.read_text(encoding="utf-8").splitlines()
    cells = [row.rpartition(",") for row in rows]
    path.write_text(
        "\n".join([head, *(f"{row},{names.get(label, label)}" for row, _, label in cells)]) + "\n"
    )
    return path


def headline(report: dict[str, Any]) -> tuple[float, float]:
    (metrics,) = report["splits"].values()
    return round(metrics["headline"]["accuracy"], 3), round(metrics["headline"]["binary_accuracy"], 3)


def test_labels_in_capitals_are_the_classes_of_the_model(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
):
    report = evaluate(CASES / "label-spelling" / "test-upper.csv")
    assert headline(report) == (0.925, 0.975)
    (metrics,) = report["splits"].values()
    assert {name: row["support"] for name, row in metrics["per_class"].items()} == {
        "Benign": 27, "DoS": 4, "FTP-Patator": 6, "PortScan": 3,
    }  # fmt: skip
    assert "'BENIGN (27)' as class 'Benign'" in codes(report["data"])["labels_matched"]
    assert "'BENIGN (27)' as class 'Benign'" in capsys.readouterr().err


@pytest.mark.parametrize("benign", ["BenignTraffic", "non-attack"])
def test_any_name_of_benign_traffic_is_the_benign_class(benign: str, evaluate: Evaluate, tmp_path: Path):
    assert all(map(means_benign, (benign, "benign.", "normal", "Normal Traffic", "legitimate")))
    report = evaluate(relabelled(tmp_path / "test.csv", {"Benign": benign}))
    assert headline(report) == (0.925, 0.975)
    assert "as class 'Benign'" in codes(report["data"])["labels_matched"]


def test_benign_and_map_name_what_no_spelling_tells(evaluate: Evaluate, tmp_path: Path):
    file = relabelled(tmp_path / "test.csv", {"Benign": "quiet", "DoS": "flood=syn"})
    report = evaluate(file, "--benign", "quiet", "--map", "flood=syn=dos")
    assert headline(report) == (0.925, 0.975)


def test_a_label_without_a_class_in_the_map_is_left_out(evaluate: Evaluate, tmp_path: Path):
    (metrics,) = evaluate(SAME_NAMES, "--map", "dos=")["splits"].values()
    assert metrics["num_flows"] == 36
    assert metrics["per_class"]["DoS"]["support"] == 0


@pytest.mark.parametrize(
    "names",
    [
        {"Benign": "0", "DoS": "1", "FTP-Patator": "1", "PortScan": "1"},
        {"Benign": "normal", "DoS": "worm", "FTP-Patator": "worm", "PortScan": "botnet"},
        {"Benign": "False", "DoS": "True", "FTP-Patator": "True", "PortScan": "True"},
    ],
)
def test_where_no_attack_is_a_class_the_metrics_are_of_attack_or_not(
    names: dict[str, str], evaluate: Evaluate, tmp_path: Path
):
    report = evaluate(relabelled(tmp_path / "test.csv", names))
    (metrics,) = report["splits"].values()
    assert list(metrics["per_class"]) == ["Benign", "attack"]
    assert (metrics["per_class"]["Benign"]["support"], metrics["per_class"]["attack"]["support"]) == (27, 13)
    assert headline(report) == (0.975, 0.975)
    assert "attack or not only" in codes(report["data"])["attack_or_not"]


def test_where_nothing_is_known_to_be_benign_there_are_no_figures(
    cases_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    names = {"Benign": "a", "DoS": "b", "FTP-Patator": "c", "PortScan": "d"}
    file = relabelled(tmp_path / "test.csv", names)
    assert main(["evaluate", str(cases_model), str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "--benign LABEL" in told.err


def test_a_mapped_label_that_does_not_occur_is_refused(cases_model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", str(cases_model), str(SAME_NAMES), "--map", "worm=DoS"]) == 2
    assert "--map: there is no label 'worm'" in capsys.readouterr().err
    assert main(["inspect", str(SAME_NAMES), "--map", "worm=DoS"]) == 2
    assert "--map: there is no label 'worm'" in capsys.readouterr().err


def test_spellings_mixed_in_training_are_one_class(inspect: Inspect):
    report = inspect("label-spelling/mixed-in-training.csv")
    assert report["benign"] == "BENIGN"
    assert report["classes"] == {"BENIGN": 62, "PortScan": 12, "FTP-Patator": 9, "DoS": 7}
    assert "'benign (23)' as class 'BENIGN'" in codes(report)["labels_matched"]
    assert "label_spelling" not in codes(report)


def test_the_sign_of_a_number_is_no_spelling(inspect: Inspect):
    unknown = inspect("label-spelling/signs.csv", "--label", "Label")
    assert "label_spelling" not in codes(unknown)
    assert "--benign" in codes(unknown)["benign_unknown"]
    report = inspect("label-spelling/signs.csv", "--label", "Label", "--benign", "1")
    assert (report["benign"], report["classes"]) == ("1", {"1": 62, "-1": 19, "-2": 9})
    assert not {"label_spelling", "benign_unknown"} & set(codes(report))


def test_benign_traffic_is_known_by_its_name(inspect: Inspect):
    report = inspect("benign-names/benign-traffic.csv")
    assert (report["benign"], report["classes"]["BenignTraffic"]) == ("BenignTraffic", 62)


def test_background_that_another_label_calls_benign_is_no_attack(inspect: Inspect):
    report = inspect("benign-names/two-benign.csv")
    assert report["classes"] == {"Benign": 62, "PortScan": 12, "FTP-Patator": 9, "DoS": 7}
    assert "'Background (32)' as class 'Benign'" in codes(report)["labels_matched"]


def test_background_of_which_nothing_is_known_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lines = (CASES / "benign-names" / "two-benign.csv").read_text(encoding="utf-8").splitlines()
    alone = tmp_path / "alone.csv"
    alone.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert main(["inspect", str(alone)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "warning: doubtful_labels: label 'Background' (32 rows) counts as an attack" in told
    assert main(["inspect", str(alone), "--map", "Background=Benign", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["Benign"] == 62
    assert main(["inspect", str(alone), "--map", "Background=", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["classes"]["Benign"], sum(report["classes"].values())) == (30, 58)


def test_a_second_label_tells_which_label_is_benign(inspect: Inspect):
    report = inspect("benign-names/sibling.csv")
    assert (report["label"], report["benign"], report["classes"]["---"]) == ("attackType", "---", 62)
    units = inspect("quantities/units-many.csv")
    assert (units["label"], units["benign"]) == ("attackType", "---")


def test_the_tool_of_an_attack_is_no_feature(inspect: Inspect):
    report = inspect("label-sibling/tool.csv")
    kinds = {column["name"]: column["kind"] for column in report["columns"]}
    assert kinds["Attack Tool"] == "label_derived"
    assert features(report) == [
        "proto", "dport", "duration", "packets", "bytes", "rev_packets", "rev_bytes",
    ]  # fmt: skip


def test_a_threshold_of_few_benign_flows_is_told_once_by_predict_and_evaluate(
    cases_model: Path, evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    verdicts = str(tmp_path / "verdicts.csv")
    assert main(["predict", str(cases_model.parent), str(SAME_NAMES), "--out", verdicts]) == 0
    assert capsys.readouterr().err.count("where 1,600 are needed") == 1
    report = evaluate(SAME_NAMES)
    assert capsys.readouterr().err.count("where 1,600 are needed") == 1
    assert "wirebert calibrate" in codes(report["data"])["untrusted_threshold"]
    (metrics,) = report["splits"].values()
    assert metrics["deployed"]["target_fpr"] == 0.01


def test_data_before_its_model_is_told(cases_model: Path, capsys: pytest.CaptureFixture[str]):
    for command in ("predict", "evaluate"):
        assert main([command, str(SAME_NAMES), str(cases_model)]) == 2
        assert f"`wirebert {command} {cases_model} {SAME_NAMES}`" in capsys.readouterr().err
