import csv
import inspect
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from wirebert.cli.main import build_parser, main
from wirebert.cli.scoring_commands import detector_arguments
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.inference.export import export_model
from wirebert.inference.rejected_rows import rejected_path
from wirebert.metrics.thresholds import fit_threshold
from wirebert.service import server
from wirebert.workflows.drift import fit_reference

WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "scipy", "sklearn"):
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Blocked())
from wirebert.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def model(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    save_artifact(artifact, folder, card="")
    export_model(folder, "onnx")
    return folder


@pytest.fixture(scope="module")
def flows(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flows") / "flows.csv"
    arrow_csv.write_csv(table, path)
    return path


def run_without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_an_export_is_scored_without_pytorch_and_without_reading_the_weights(
    model: Path, flows: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["predict", str(model), str(flows), "--backend", "torch", "--out", str(tmp_path / "a.csv")]) == 0
    )
    capfd.readouterr()
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(b"\0" * len(content))  # whoever reads them finds that they have changed
    try:
        done = run_without_torch("predict", str(model), str(flows), "--out", str(tmp_path / "b.csv"))
    finally:
        weights.write_bytes(content)
    assert done.returncode == 0, done.stderr
    assert "by onnx on cpu" in done.stderr
    expected, rows = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("a.csv", "b.csv")
    )
    assert len(rows) == 60
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["predicted_class"] == theirs["predicted_class"]
        assert float(ours["attack_score"]) == pytest.approx(float(theirs["attack_score"]), abs=1e-4)


def test_rows_that_can_not_be_used_cost_no_other_its_verdict_and_are_an_alarm(
    model: Path, flows: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    header, *rows = flows.read_bytes().splitlines(keepends=True)
    log, out = tmp_path / "flows.csv", tmp_path / "v.jsonl"
    log.write_bytes(header + b"".join(rows * 4 + [b"a,b\n"] * 6 + rows))
    assert main(["predict", str(model), str(log), "--out", str(out)]) == 0
    assert out.read_bytes().count(b"\n") == 300
    assert "set_aside: 6 of 306 rows" in capfd.readouterr().err
    rejected = [json.loads(line) for line in rejected_path(out).read_text().splitlines()]
    assert [(row["file"], row["line"], row["text"]) for row in rejected] == [
        (str(log), line, "a,b") for line in range(242, 248)
    ]
    assert main(["predict", str(model), str(log), "--strict", "--out", str(tmp_path / "w.csv")]) == 2
    log.write_bytes(header + b"".join(rows[:30] + [b"a,b\n"] * 61 + rows[30:]))
    assert main(["predict", str(model), str(log), "--out", str(tmp_path / "x.csv")]) == 2
    assert "61 of 121 rows cannot be parsed" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("x.csv*")) == []


def test_events_are_written_with_the_table_of_the_user(
    model: Path, flows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "own.toml", tmp_path / "events.jsonl"
    own.write_text('[[class]]\npattern = ".*"\nseverity = "low"\n')
    words = ["predict", str(model), str(flows), "--format", "ecs", "--out", str(out)]
    assert main([*words, "--attack-techniques", str(own)]) == 0
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert events
    assert {event["event"].get("severity", 21) for event in events} == {21}
    manifest = json.loads((model / "wirebert.json").read_text())
    assert {len(event["wirebert"]["model_sha256"]) for event in events} == {len(manifest["sha256"])}
    assert main([*words, "--attack-techniques", str(tmp_path / "no.toml")]) == 2
    assert "expected a TOML file of [[class]] tables" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trained_model_is_scored_without_pytorch(trained: Path, traffic: Path, tmp_path: Path) -> None:
    """Training writes the export."""
    logs, out = str(traffic / "test.csv"), tmp_path / "v.csv"
    done = run_without_torch("predict", str(trained / "model"), logs, "--device", "auto", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "by onnx on cpu" in done.stderr
    expected = parquet.read_table(trained / "predictions" / "test.parquet")["predicted_class"].to_pylist()
    assert [row["predicted_class"] for row in csv.DictReader(out.read_text().splitlines())] == expected


@pytest.mark.slow
def test_a_model_without_an_export_needs_pytorch_and_says_so(
    artifact: Artifact, flows: Path, tmp_path: Path
) -> None:
    save_artifact(artifact, tmp_path / "model", card="")
    done = run_without_torch("predict", str(tmp_path / "model"), str(flows))
    assert done.returncode == 2
    assert "--backend torch needs PyTorch, which is not installed" in done.stderr
    assert "wirebert export" in done.stderr


@pytest.mark.slow
def test_the_service_starts_without_pytorch(model: Path) -> None:
    done = run_without_torch("serve", str(model), "--host", "192.0.2.1", "--allow-anonymous")
    assert done.returncode == 2  # it got as far as listening, on an address that no machine has
    assert "192.0.2.1" in done.stderr
    assert "cannot listen" in done.stderr or "cannot listen" in done.stderr


def test_a_strict_monitor_or_service_does_not_start_with_a_doubtful_threshold(
    artifact: Artifact, flows: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = fit_threshold(np.linspace(0, 1, 100), np.zeros(100, bool), 0.001)
    doubtful = replace(NO_OPERATING_POINT, thresholds=(few,), alert_fpr=0.001)
    save_artifact(replace(artifact, operating_point=doubtful), tmp_path / "model", card="")
    for words in (("monitor", str(flows), "--to", str(tmp_path / "out.jsonl")), ("serve",)):
        assert main([words[0], str(tmp_path / "model"), *words[1:], "--strict"]) == 2
        assert "--strict: 1 finding (untrusted_threshold)" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_verdicts_of_a_live_pipe_come_before_it_closes(model: Path, flows: Path, tmp_path: Path) -> None:
    assert main(["predict", str(model), str(flows), "--out", str(tmp_path / "whole.csv")]) == 0
    expected = (tmp_path / "whole.csv").read_bytes().splitlines(keepends=True)
    command = [sys.executable, "-m", "wirebert", "predict", str(model), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(flows.read_bytes())
        process.stdin.flush()
        assert [process.stdout.readline() for _ in expected] == expected  # it is still open
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b""
        assert process.wait(60) == 0
    with flows.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=True)
    assert done.stdout == b"".join(expected)


@pytest.mark.slow
def test_who_pipes_what_is_no_traffic_meets_a_sentence_and_no_broken_pipe(model: Path) -> None:
    command = [sys.executable, "-m", "wirebert", "predict", str(model), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"a,b\n" * (1 << 20))  # far more than a pipe holds, and it stays open
        process.stdin.flush()
        assert process.wait(60) == 2
        assert b"stdin" in process.stderr.read()


def test_following_by_its_old_name_is_a_monitor_and_names_the_command(
    model: Path, flows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "v.jsonl"
    command = [sys.executable, "-m", "wirebert", "predict", str(model), "-", "--follow", "--out", str(out)]
    done = subprocess.run(command, input=flows.read_bytes(), capture_output=True, check=True)
    assert f"`wirebert monitor {model} - --to {out}`" in done.stderr.decode()
    assert len(out.read_text().splitlines()) == len(flows.read_text().splitlines()) - 1
    assert (tmp_path / "v.jsonl.state" / "monitor.state").is_file()


def test_a_monitor_scores_a_pipe_to_its_end_without_pytorch(model: Path, flows: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "monitor", str(model), "-", "--to"]
    done = subprocess.run(
        [*command, f"{tmp_path / 'out.jsonl'},write=flows+health"],
        input=flows.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    num_flows = len(flows.read_text().splitlines()) - 1
    assert [row["row"] for row in rows[:-1]] == list(range(num_flows))
    assert (rows[-1]["event"], rows[-1]["flows"]) == ("stopped", num_flows)


def test_a_remote_target_needs_a_state(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", str(model), "conn.log", "--to", "syslog+udp://127.0.0.1:514"]) == 2
    assert "expected --state DIR" in capfd.readouterr().err


def test_a_test_event_reaches_every_target_and_keeps_what_is_there(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    for _ in range(2):
        assert main(["monitor", str(model), "-", "--to", str(out), "--test-event"]) == 0
    assert [json.loads(line)["event"] for line in out.read_text().splitlines()] == ["test", "test"]


def test_a_service_watches_drift(
    artifact: Artifact, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = fit_reference(Detector(artifact), [table] * 20)
    save_artifact(replace(artifact, reference=reference), tmp_path / "model", card="")
    served: list[Detector] = []

    def serve(detector: Detector, *_: object) -> None:
        served.append(detector)

    monkeypatch.setattr(server, "serve", serve)
    assert main(["serve", str(tmp_path / "model"), "--backend", "torch"]) == 0
    assert "flows" in served[0].drift_status()


def test_a_detector_has_every_option_of_verdicts() -> None:
    words = "predict m x.csv --fpr 0.01 --novelty --community-id-seed 7 --allow-absent --threads 3".split()
    found = detector_arguments(build_parser().parse_args(words))
    assert {
        "fpr": 0.01,
        "community_id_seed": 7,
        "threads": 3,
        "novelty": True,
        "allow_absent": True,
    }.items() <= found.items()
    assert inspect.signature(Detector.load).parameters.keys() - found.keys() == {"folder", "cache_mb"}
