import csv
import io
import json
import math
import shutil
from pathlib import Path

import pytest
from pyarrow import parquet

from wirebert.cli import build_parser, main
from wirebert.commands import COMMANDS, Output
from wirebert.config import RunConfig, resolve_run
from wirebert.data.loading import open_flows


@pytest.mark.slow
def test_a_report_is_printed(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained)]) == 0
    out = capfd.readouterr().out
    assert "valid: 150 flows" in out or "valid: 149 flows" in out
    assert "test: 300 flows" in out
    assert f"report: {trained / 'report.html'}" in out


@pytest.mark.slow
def test_two_reports_stand_side_by_side(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained), str(trained)]) == 0
    out = capfd.readouterr().out
    assert "| tiny     |" in out
    assert "| tiny (2) |" in out
    assert "settings that differ" not in out


@pytest.mark.slow
def test_evaluating_gives_the_figures_of_the_run_again(
    trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    arguments = [str(trained / "model"), str(traffic / "test.csv")]
    assert main(["evaluate", *arguments, "--out", str(out)]) == 0
    screen = capfd.readouterr().out
    assert f"report: {out / 'report.html'}" in screen
    ours, first = (json.loads((folder / "report.json").read_text()) for folder in (out, trained))
    for name in ("num_flows", "accuracy", "macro_f1", "per_class", "confusion", "classes_not_in_training"):
        assert ours["splits"]["test"][name] == first["splits"]["test"][name]
    rows = [parquet.read_table(folder / "predictions" / "test.parquet") for folder in (out, trained)]
    assert rows[0].equals(rows[1])
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        *("predictions", "plots", "report.json", "report.html")
    }
    assert main(["report", str(out), str(trained)]) == 0
    capfd.readouterr()
    # Without --out the same is printed, but that the test file was opened once more, and nothing is written.
    assert main(["evaluate", *arguments]) == 0
    assert capfd.readouterr().out.partition("Opened")[0] == screen.partition("Opened")[0]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", None])
def test_verdicts_are_those_of_the_report_in_input_order(
    ending: str | None, trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(trained / "model"), str(traffic / "test.csv")]
    path = tmp_path / f"verdicts.{ending}"
    assert main([*arguments, *(["--out", str(path)] if ending else [])]) == 0
    captured = capfd.readouterr()
    if ending is None:
        verdicts = list(csv.DictReader(io.StringIO(captured.out)))
        assert captured.err == ""
    else:
        assert captured.err.startswith("300 flows by torch on ")
        assert captured.err.endswith(f": {path}\n")
        verdicts = {
            "csv": lambda: list(csv.DictReader(io.StringIO(path.read_text()))),
            "jsonl": lambda: [json.loads(line) for line in path.read_text().splitlines()],
            "parquet": lambda: parquet.read_table(path).to_pylist(),
        }[ending]()
    kept = parquet.read_table(trained / "predictions" / "test.parquet").to_pylist()
    for verdict, known in zip(verdicts, kept, strict=True):
        assert int(verdict["row"]) == known["row"]
        assert int(verdict["line"]) == known["row"] + 2  # one header, and lines are counted from 1
        assert verdict["predicted_class"] == known["predicted_class"]
        assert verdict["uid"] == known["uid"]
        assert math.isclose(float(verdict["attack_score"]), known["attack_score"], abs_tol=1e-6)


@pytest.mark.slow
def test_inspecting_says_what_is_there(traffic: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(traffic / "train.csv")]) == 0
    out = capfd.readouterr().out
    assert "comma-separated" in out
    assert "schema synthetic" in out
    assert "benign 1,0" in out
    assert main(["inspect", str(traffic / "train.csv"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["num_rows"] == 1500


@pytest.mark.slow
def test_nsl_kdd_is_known_by_itself(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(data_dir / "nsl-kdd" / "KDDTrain+.txt.gz")]) == 0
    out = capfd.readouterr().out
    assert "gzip" in out
    assert "no header" in out
    assert "schema nsl_kdd" in out
    assert (
        "normal 67,343 (53.46%), dos 45,927 (36.46%), probe 11,656 (9.25%), r2l 995 (0.79%), u2r 52 (0.04%)"
        in out
    )
    for code in ("constant_column", "conflicting_labels", "duplicate_rows"):
        assert code in out
    assert "num_outbound_cmds" in out


@pytest.mark.slow
def test_the_demo_is_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[int, list[str]]] = []

    def fit(run: object, *_: object) -> None:
        resolved = resolve_run(tmp_path / "runs" / "demo" / "run.toml")
        assert run == resolved
        calls.append((resolved.seed, [resolved.train, *resolved.test]))

    monkeypatch.setattr("wirebert.commands.fit", fit)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--rows", "1200", "--seed", "4"]) == 0
    ((seed, files),) = calls
    assert seed == 4
    assert [len(Path(file).read_text().splitlines()) - 1 for file in files] == [1200, 400]


@pytest.mark.slow
def test_the_quiet_demo_asks_what_context_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[RunConfig] = []

    def fit(run: RunConfig, *_: object) -> None:
        assert open_flows(run.train).schema.context is not None
        calls.append(run)

    monkeypatch.setattr("wirebert.commands.fit", fit)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--quiet", "--rows", "1200"]) == 0
    (run,) = calls
    assert run.evaluation.ablate_context
    assert Path(run.train).name == "train.conn.log"


def test_an_output_whose_reader_is_gone_leaves_it_to_the_command_line() -> None:
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    output = Output()
    output.file = Gone()
    with pytest.raises(BrokenPipeError):
        output.print("figures")


@pytest.mark.slow
def test_data_sets_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    assert "nsl" in capfd.readouterr().out.lower()


def test_commands_stand_in_the_order_of_the_help() -> None:
    actions = build_parser()._subparsers  # pyright: ignore[reportPrivateUsage]  # argparse has no public way
    assert actions is not None
    (commands,) = actions._group_actions  # pyright: ignore[reportPrivateUsage]
    assert list(COMMANDS) == list(commands.choices or ())


@pytest.mark.slow
def test_evaluating_accounts_for_every_row(
    trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    header, *rows = (traffic / "test.csv").read_text(encoding="utf-8").splitlines()
    rows[4] += ",one field too many"
    rows[7] = rows[7].rpartition(",")[0] + ","
    (tmp_path / "odd.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["evaluate", str(trained / "model"), str(tmp_path / "odd.csv"), "--out", str(out)]) == 0
    screen = capfd.readouterr().out
    assert "warning: odd: 1 of 300 rows (0.3 %) can not be used and are left out (line 6:" in screen
    assert "warning: odd: 1 of 299 rows (0.3 %) have no label" in screen
    report = json.loads((out / "report.json").read_text())
    left_out = {finding["code"]: finding["count"] for finding in report["data"]["findings"]}
    assert left_out == {"rows_set_aside": 1, "unlabelled_rows": 1}
    assert report["splits"]["odd"]["num_flows"] + sum(left_out.values()) == len(rows)


def test_an_inferred_schema_can_be_written_edited_and_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, schema = tmp_path / "flows.csv", tmp_path / "mine.toml"
    rows = [f"{row % 5},{row % 3}.5,{'normal' if row % 2 else 'dos'}" for row in range(100)]
    data.write_text("\n".join(["bytes,load,label", *rows, ""]), encoding="utf-8")
    assert main(["inspect", str(data), "--write-schema", str(schema), "--drop", "count"]) == 0
    text = schema.read_text(encoding="utf-8")
    assert "left out by data.drop" in text
    schema.write_text(text.replace('kind = "count"', 'kind = "category"'), encoding="utf-8")
    assert main(["inspect", str(data), "--schema", str(schema), "--json"]) == 0
    found = json.loads(capfd.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert [column["kind"] for column in found["columns"]] == ["category", "number", "label"]
    assert main(["inspect", str(data), "--write-schema", str(schema)]) == 2
    assert (
        "mine.toml: the schema can not be written (File exists); choose another name"
        in capfd.readouterr().err
    )


def test_a_column_that_is_not_there_can_not_be_dropped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flows.csv").write_text("dport,label\n80,normal\n22,dos\n", encoding="utf-8")
    assert main(["inspect", str(tmp_path / "flows.csv"), "--drop", "dprt"]) == 2
    assert "there is no column or kind 'dprt', did you mean 'dport'" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_fits_thresholds_on_validation_flows_and_reports_what_they_do_on_test(trained: Path) -> None:
    kept = json.loads((trained / "model" / "wirebert.json").read_text())["operating"]["thresholds"]
    splits = json.loads((trained / "report.json").read_text())["splits"]
    assert [point["target_fpr"] for point in kept] == [0.01, 0.001, 0.0001]
    for split in ("valid", "test"):
        points = splits[split]["operating_points"]
        assert [point["threshold"] for point in points] == [point["threshold"] for point in kept]
        assert splits[split]["thresholds_from"] == "valid"
    for point, limit in zip(splits["valid"]["operating_points"], kept, strict=True):
        assert point["fpr"] == pytest.approx(limit["num_false"] / limit["num_benign"])


@pytest.mark.slow
def test_calibrating_writes_a_model_that_keeps_to_the_allowance(
    trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, out = str(trained / "model"), tmp_path / "mine"
    before = (trained / "model" / "wirebert.json").read_bytes()
    logs = str(traffic / "test.csv")
    assert main(["calibrate", model, logs, "--alerts-per-10000", "500", "--out", str(out)]) == 0
    assert f"model: {out}" in capfd.readouterr().out
    assert (trained / "model" / "wirebert.json").read_bytes() == before
    assert main(["predict", str(out), logs, "--unknown", "--out", str(tmp_path / "v.parquet")]) == 0
    verdicts = parquet.read_table(tmp_path / "v.parquet")
    assert set(verdicts["verdict"].to_pylist()) <= {"pass", "alert", "unknown"}
    threshold = json.loads((out / "wirebert.json").read_text())["operating"]["budget"]["threshold"]
    assert sum(score >= threshold for score in verdicts["attack_score"].to_pylist()) <= 15
    assert (verdicts["novelty"].to_numpy() >= 0).all()
    capfd.readouterr()
    assert main(["calibrate", model, logs, "--alerts-per-day", "5", "--out", str(out)]) == 2
    assert f"--out {out}: expected a new folder" in capfd.readouterr().err


@pytest.mark.slow
def test_a_rate_without_a_threshold_is_one_sentence(
    trained: Path, traffic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(trained / "model"), str(traffic / "test.csv"), "--at", "0.5"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("wirebert: --at must be")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_an_exported_model_is_what_predict_uses(
    trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, logs, out = tmp_path / "model", str(traffic / "test.csv"), tmp_path / "v.jsonl"
    shutil.copytree(trained / "model", model)
    assert main(["predict", str(model), logs, "--backend", "onnx-int8"]) == 2
    assert "`wirebert export MODEL --format onnx --int8`" in capfd.readouterr().err
    for options in ([], ["--int8", "--data", str(traffic / "train.csv")]):
        assert main(["export", str(model), "--format", "onnx", *options]) == 0
        assert "flows get the same class as from PyTorch" in capfd.readouterr().out
    predict = ["predict", str(model), logs, "--explain", "--device", "cpu", "--out", str(out)]
    assert main([*predict, "--threads", "1"]) == 0
    assert capfd.readouterr().err.startswith("300 flows by onnx-int8 on cpu: ")
    kept = parquet.read_table(trained / "predictions" / "test.parquet").to_pylist()
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    same = [
        verdict["predicted_class"] == known["predicted_class"]
        for verdict, known in zip(verdicts, kept, strict=True)
    ]
    assert sum(same) >= 0.98 * len(same)
    benign = json.loads((model / "wirebert.json").read_text())["classes"]["benign"]
    assert all((verdict["why"] is None) == (verdict["predicted_class"] == benign) for verdict in verdicts)
