"""Training, inspection and comparison from Python are those of the commands."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv

import wirebert as wb
from wirebert.api.training import train
from wirebert.cli.main import main
from wirebert.errors import ConfigError, RunError

pytestmark = pytest.mark.filterwarnings("ignore::wirebert.FindingWarning")


@pytest.fixture(scope="module")
def train_table(traffic: Path) -> pa.Table:
    return csv.read_csv(traffic / "train.csv", csv.ReadOptions(use_threads=False))


@pytest.fixture(scope="module")
def own(train_table: pa.Table, test_table: pa.Table, few: dict[str, Any]) -> wb.Detector:
    return train(train_table, test=test_table, label="label", verbose=False, **few)


def test_a_training_on_a_file_has_the_bits_of_the_command(traffic: Path, few: dict[str, Any], tmp_path: Path):
    names = {
        "size": "model",
        "dim": "model",
        "num_layers": "model",
        "num_heads": "model",
        "hidden_dim": "model",
    }
    names |= {"subword_vocab_size": "encoding", "epochs": "training"}
    options = [f"{names.get(name, 'evaluation')}.{name}={json.dumps(value)}" for name, value in few.items()]
    data, out = traffic / "train.csv", [tmp_path / "own", tmp_path / "command"]
    train(data, out=out[0], verbose=False, **few)
    sets = [word for option in options for word in ("--set", option)]
    assert main(["train", str(data), "--out", str(out[1]), *sets]) == 0
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in out]
    assert weights[0] == weights[1]
    assert (out[0] / "report.html").is_file()


def test_a_table_is_trained_on_and_evaluated(own: wb.Detector):
    report = own.report().report
    assert report.command == "wirebert.train(...)"
    assert list(report.splits) == ["valid", "test"]
    assert "benign" in own.classes


def test_the_folder_of_a_run_that_is_not_kept_goes_with_the_detector(
    train_table: pa.Table, few: dict[str, Any]
):
    detector = train(train_table.slice(0, 400), verbose=False, **few)
    folder = detector.folder
    assert folder is not None
    assert folder.exists()
    del detector
    assert not folder.parent.parent.exists()


def test_errors_come_before_anything_is_written(traffic: Path, train_table: pa.Table, tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        train(train_table, out=tmp_path / "run", epoch=3)
    with pytest.raises(wb.UserError, match="no such file"):
        train(traffic / "train.csv", test=tmp_path / "none.csv", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thing").touch()
    with pytest.raises(RunError, match="choose another --out"):
        train(train_table, out=tmp_path / "run")


def test_an_inspection_is_that_of_the_command(
    traffic: Path, capsys: pytest.CaptureFixture[str], test_table: pa.Table
):
    assert main(["inspect", str(traffic / "train.csv"), "--json"]) == 0
    assert json.loads(wb.inspect(traffic / "train.csv").to_json()) == json.loads(capsys.readouterr().out)
    seen = wb.inspect(traffic / "train.csv", test=test_table)
    assert seen.profile.num_rows == 1500
    assert "new_labels" in {finding.code for finding in seen.findings}
    assert "Findings" in seen._repr_html_()  # pyright: ignore[reportPrivateUsage]


def test_a_comparison_needs_test_data(train_table: pa.Table):
    with pytest.raises(ConfigError, match="test_fraction"):
        wb.compare(train_table, methods=["logistic"])


@pytest.mark.soak
def test_a_comparison_has_every_method(train_table: pa.Table, test_table: pa.Table, few: dict[str, Any]):
    result = wb.compare(
        train_table.slice(0, 500),
        methods=["logistic"],
        test=test_table,
        num_seeds=1,
        num_trials=1,
        num_folds=2,
        verbose=False,
        **few,
    )
    assert {name.partition(",")[0] for name in result.facts} >= {"wirebert", "logistic regression"}
