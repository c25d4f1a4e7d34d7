import csv
import io
import json
import math
import re
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest
from pyarrow import csv as csv_file
from pyarrow import parquet

from wirebert.cli.main import main
from wirebert.data.synthetic import write_csv


@pytest.mark.slow
def test_evaluating_gives_the_figures_of_the_run_again(
    trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    arguments = [str(trained / "model"), str(traffic / "test.csv"), "--backend", "torch"]  # as in training
    assert main(["evaluate", *arguments, "--out", str(out)]) == 0
    screen = capfd.readouterr().out
    assert f"report: {out / 'report.html'}" in screen
    ours, first = (json.loads((folder / "report.json").read_text()) for folder in (out, trained))
    for name in ("num_flows", "headline", "per_class", "confusion", "classes_not_in_training"):
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
    assert capfd.readouterr().out.partition("Used for")[0] == screen.partition("Used for")[0]


@pytest.mark.slow
def test_the_labels_of_the_column_that_is_named_are_counted(
    trained: Path, traffic: Path, tmp_path: Path
) -> None:
    flows = list(csv.DictReader(io.StringIO((traffic / "test.csv").read_text(encoding="utf-8"))))
    names = sorted({flow["label"] for flow in flows})
    other = dict(zip(names, [*names[1:], names[0]], strict=True))
    truths = [
        other[flow["label"]] for flow in flows
    ]  # the file's own column of labels would give other counts
    path, out = tmp_path / "flows.csv", tmp_path / "out"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["truth", *flows[0]])
        writer.writeheader()
        writer.writerows({"truth": truth, **flow} for truth, flow in zip(truths, flows, strict=True))
    assert main(["evaluate", str(trained / "model"), str(path), "--label", "truth", "--out", str(out)]) == 0
    figures = json.loads((out / "report.json").read_text())["splits"]["flows"]
    predicted = parquet.read_table(trained / "predictions" / "test.parquet")["predicted_class"].to_pylist()
    pairs = Counter(zip(truths, predicted, strict=True))
    matrix, labels = figures["confusion"]["matrix"], figures["confusion"]["labels"]
    counted = {
        (true, guess): count
        for true, row in zip(labels, matrix, strict=True)
        for guess, count in zip(labels, row, strict=True)
        if count
    }
    assert counted == pairs
    right = sum(count for (true, guess), count in pairs.items() if true == guess)
    assert figures["num_flows"] == 300
    assert figures["headline"]["accuracy"] == pytest.approx(right / 300, abs=1e-12)


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
        assert captured.err.startswith("wirebert: untrusted_threshold: ")
        assert captured.err.count("\n") == 1
    else:
        assert captured.err.splitlines()[-1].startswith("300 flows by onnx on cpu")
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
def test_evaluating_accounts_for_every_row(
    trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    header, *rows = (traffic / "test.csv").read_text(encoding="utf-8").splitlines()
    rows[4] += ",one field too many"
    rows[7] = rows[7].rpartition(",")[0] + ","
    (tmp_path / "odd.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["evaluate", str(trained / "model"), str(tmp_path / "odd.csv"), "--out", str(out)]) == 0
    screen = capfd.readouterr().err
    assert "rejected_rows: odd: 1 of 300 rows (0.3 %) cannot be parsed and are skipped (line 6:" in screen
    assert "unlabelled_rows: odd: 1 of 299 rows (0.3 %) have no label" in screen
    report = json.loads((out / "report.json").read_text())
    findings = {finding["code"]: finding["count"] for finding in report["data"]["findings"]}
    left_out = {code: count for code, count in findings.items() if code != "untrusted_threshold"}
    assert left_out == {"rejected_rows": 1, "unlabelled_rows": 1}
    assert report["splits"]["odd"]["num_flows"] + sum(left_out.values()) == len(rows)


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
    assert main(["predict", str(out), logs, "--novelty", "--out", str(tmp_path / "v.parquet")]) == 0
    verdicts = parquet.read_table(tmp_path / "v.parquet")
    assert set(verdicts["verdict"].to_pylist()) <= {"pass", "alert", "unknown"}
    threshold = json.loads((out / "wirebert.json").read_text())["operating_point"]["alert_budget"][
        "threshold"
    ]
    assert sum(score >= threshold for score in verdicts["attack_score"].to_pylist()) <= 15
    assert (verdicts["novelty"].to_numpy() >= 0).all()
    capfd.readouterr()
    assert main(["calibrate", model, logs, "--alerts-per-day", "5", "--out", str(out)]) == 2
    assert f"--out {out}: this folder exists" in capfd.readouterr().err


@pytest.mark.slow
def test_a_cascade_answers_by_two_models_wherever_flows_are_scored(
    trained: Path, traffic: Path, tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, out, logs = tmp_path / "small", tmp_path / "both", str(traffic / "test.csv")
    smaller = ["--set", "model.dim=16", "--set", "model.hidden_dim=16", "--set", "evaluation.baseline=false"]
    assert main(["train", str(traffic / "train.csv"), "--out", str(run), *tiny, *smaller]) == 0
    budget = ["--alerts-per-10000", "500", "--out", str(out)]
    calibrate = ["calibrate", str(trained), logs, *budget]
    assert main([*calibrate, "--cascade", str(run), "--prior", "estimate"]) == 2
    assert "--prior and --cascade are for two calls" in capfd.readouterr().err
    assert main(["calibrate", str(run), logs, *budget, "--cascade", str(trained)]) == 2
    error = capfd.readouterr().err
    assert error.startswith(
        "wirebert: --cascade tiny: expected a smaller model for the same flows, found one of"
    )
    assert error.count("\n") == 1
    assert main([*calibrate, "--cascade", str(run)]) == 0
    note = next(
        line for line in capfd.readouterr().out.splitlines() if line.startswith("cascade: a model of")
    )
    assert note in (out / "README.md").read_text()
    assert {"model.onnx", "model-small.onnx"} <= {path.name for path in out.iterdir()}
    threshold = json.loads((out / "wirebert.json").read_text())["operating_point"]["alert_budget"][
        "threshold"
    ]
    path = tmp_path / "v.parquet"
    assert main(["predict", str(out), logs, "--out", str(path)]) == 0
    told = capfd.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        rf"300 flows by cascade on cpu, \d+\.\d% of \d+ distinct rows by the big model: {path}", told
    )
    assert sum(score >= threshold for score in parquet.read_table(path)["attack_score"].to_pylist()) <= 15
    shards = tmp_path / "shards"
    assert main(["predict", str(out), logs, "--out", f"{shards}/"]) == 0
    by_shards = capfd.readouterr().err.splitlines()[-1]
    assert by_shards.partition(" (1 shard")[0] == told.replace(str(path), f"{shards}/")
    assert main(["evaluate", str(out), logs]) == 0
    assert "300 flows by cascade on cpu" in capfd.readouterr().out
    # Calibrated again it is still a cascade; under another prior the small model would be wrong.
    again = ["calibrate", str(out), logs, "--alerts-per-10000", "900"]
    assert main([*again, "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "model-small.onnx").exists()
    capfd.readouterr()
    assert main([*again, "--prior", "estimate", "--out", str(tmp_path / "prior")]) == 0
    assert "the cascade is left out" in capfd.readouterr().err
    assert not (tmp_path / "prior" / "model-small.onnx").exists()


@pytest.mark.slow
def test_a_rate_without_a_threshold_is_one_sentence(
    trained: Path, traffic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(trained / "model"), str(traffic / "test.csv"), "--fpr", "0.5"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("wirebert: --fpr must be")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_an_exported_model_is_what_predict_uses(
    traffic: Path, tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, logs, out = tmp_path / "run", str(traffic / "test.csv"), tmp_path / "v.jsonl"
    model = run / "model"
    # After one epoch scores are alike to five places, and eight bits move many of them over the threshold.
    train = ["train", str(traffic / "train.csv"), "--out", str(run), *tiny]
    assert main([*train, "--set", "training.epochs=4", "--set", "evaluation.baseline=false"]) == 0
    assert main(["predict", str(model), logs, "--backend", "onnx-int8"]) == 2
    assert "`wirebert export MODEL --format onnx --int8`" in capfd.readouterr().err
    for options in ([], ["--int8", "--data", str(traffic / "train.csv")]):
        assert main(["export", str(model), "--format", "onnx", *options]) == 0
        assert "flows get the same class as from PyTorch" in capfd.readouterr().out
    predict = ["predict", str(model), logs, "--explain", "--device", "cpu", "--out", str(out)]
    assert main([*predict, "--threads", "1"]) == 0
    assert capfd.readouterr().err.splitlines()[-1].startswith("300 flows by onnx-int8 on cpu: ")
    exact = tmp_path / "v.parquet"
    assert main(["predict", str(model), logs, "--backend", "torch", "--out", str(exact)]) == 0
    kept = parquet.read_table(exact).to_pylist()
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    same = [
        verdict["predicted_class"] == known["predicted_class"]
        for verdict, known in zip(verdicts, kept, strict=True)
    ]
    assert sum(same) >= 0.98 * len(same)
    benign = json.loads((model / "wirebert.json").read_text())["classes"]["benign"]
    for verdict in verdicts:
        is_quiet = verdict["predicted_class"] == benign and verdict["verdict"] == "pass"
        assert (verdict["explanation"] is None) == is_quiet


@pytest.mark.soak
def test_alerts_go_by_novelty_too_all_the_way(
    traffic: Path, tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, logs = tmp_path / "run", str(traffic / "test.csv")
    train = ["train", str(traffic / "train.csv"), "--test", logs, "--out", str(run), *tiny]
    weighed = ["--set", "decision.alert_score=attack_and_novelty", "--set", "decision.novelty_weight=2"]
    assert main([*train, *weighed]) == 0
    manifest = json.loads((run / "model" / "wirebert.json").read_text())
    assert manifest["operating_point"]["alert_score"]["novelty_weight"] == 2
    pages = [(run / "model" / "README.md").read_text(), (run / "report.html").read_text(encoding="utf-8")]
    assert all("novelty" in text for text in [capfd.readouterr().out, *pages])
    known = parquet.read_table(run / "predictions" / "test.parquet")
    predict = ["predict", str(run / "model"), logs, "--backend", "torch"]  # the engine of the run's report
    assert main([*predict, "--out", str(tmp_path / "v.parquet")]) == 0
    verdicts = parquet.read_table(tmp_path / "v.parquet")
    assert verdicts["alert_score"].to_numpy() == pytest.approx(known["alert_score"].to_numpy(), abs=1e-4)
    report = json.loads((run / "report.json").read_text())["splits"]["test"]
    assert report["alert_score"] == "attack_and_novelty"
    threshold = report["operating_points"][0]["threshold"]
    benign = known.filter(pc.field("true_class") == "benign")["alert_score"].to_numpy()
    assert report["operating_points"][0]["fpr"] == pytest.approx((benign >= threshold).mean())
    out = tmp_path / "mine"
    assert main(["calibrate", str(run / "model"), logs, "--alerts-per-10000", "500", "--out", str(out)]) == 0
    assert main(["predict", str(out), logs, "--out", str(tmp_path / "few.parquet")]) == 0
    assert parquet.read_table(tmp_path / "few.parquet")["verdict"].to_pylist().count("alert") <= 15


@pytest.mark.slow
def test_drift_is_told_by_words_by_a_page_and_by_the_exit_code(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("usual", 5), ("later", 6)):
        write_csv(tmp_path / f"{name}.csv", 3_000, seed=seed)
    # Its validation rows were too few, so that there is nothing to compare with.
    assert main(["drift", str(trained), str(tmp_path / "later.csv")]) == 2
    assert "has no drift reference" in capfd.readouterr().err
    model = tmp_path / "model"
    budget = ["--alerts-per-10000", "50", "--out", str(model)]
    assert main(["calibrate", str(trained), str(tmp_path / "usual.csv"), *budget]) == 0
    capfd.readouterr()
    assert main(["drift", str(model), str(tmp_path / "usual.csv"), "--json"]) == 0
    plain = json.loads(capfd.readouterr().out)
    names = [one["name"] for one in plain["measures"]]
    assert {"attack score", "novelty", "alerts", "unseen values", "dst_port"} <= set(names)
    assert plain["num_flows"] == 3_000
    assert max(one["distance"] for one in plain["measures"]) == pytest.approx(0, abs=0.01)
    table = csv_file.read_csv(tmp_path / "later.csv").drop_columns(["dst_port"])
    csv_file.write_csv(table, tmp_path / "changed.csv")
    page = tmp_path / "drift.html"
    assert main(["drift", str(model), str(tmp_path / "changed.csv"), "--out", str(page)]) == 3
    captured = capfd.readouterr()
    assert "drift_lost: 'dst_port' lack" in captured.err
    assert "have moved" in captured.out
    assert 'aria-label="dst_port: distance 1.00' in page.read_text(encoding="utf-8")
    (tmp_path / "short.csv").write_text("\n".join((tmp_path / "later.csv").read_text().splitlines()[:50]))
    assert main(["drift", str(model), str(tmp_path / "short.csv")]) == 2
    assert "short: expected at least" in capfd.readouterr().err
    assert main(["drift", str(model), str(tmp_path / "later.csv"), "--false-alarm-rate", "0"]) == 2
