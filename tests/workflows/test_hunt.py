# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportArgumentType=false

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capture_generator.captures import captures

from wirebert.cli.main import main
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.errors import ConfigError
from wirebert.inference.artifact import load_artifact
from wirebert.run_folder import BUILT_IN
from wirebert.workflows.hunt import model_and_logs

HEAD = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
FIELDS = (
    "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state "
    "history orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes"
).split()


def write_log(path: Path, flows: list[dict[str, Any]]) -> Path:
    plain = {
        "proto": "tcp",
        "service": "ssl",
        "duration": 0.4,
        "orig_bytes": 900,
        "resp_bytes": 5_000,
        "conn_state": "SF",
        "history": "ShADadFf",
        "orig_pkts": 8,
        "orig_ip_bytes": 1_330,
        "resp_pkts": 9,
        "resp_ip_bytes": 5_480,
    }
    lines = [
        "\t".join(str({"uid": f"C{at}", "id.orig_p": 40_000 + at, **plain, **flow}[name]) for name in FIELDS)
        for at, flow in enumerate(sorted(flows, key=lambda flow: flow["ts"]))
    ]
    path.write_text(HEAD + "#fields\t" + "\t".join(FIELDS) + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def web(start_s: float, count: int, seed: int) -> list[dict[str, Any]]:
    """Clients at many web sites."""
    rng = np.random.default_rng(seed)
    return [
        {
            "ts": start_s + float(rng.uniform(0, 600)),
            "id.orig_h": f"10.0.0.{int(rng.integers(20, 30))}",
            "id.resp_h": f"93.184.{int(rng.integers(0, 9))}.{int(rng.integers(1, 250))}",
            "id.resp_p": 443,
            "orig_bytes": int(rng.integers(500, 4_000)),
            "resp_bytes": int(rng.integers(2_000, 60_000)),
            "duration": float(rng.uniform(0.1, 30)),
        }
        for _ in range(count)
    ]


def sweep(start_s: float, source: str) -> list[dict[str, Any]]:
    """60 ports of one host, all closed."""
    closed = {"service": "-", "duration": 0.0002, "orig_bytes": 0, "resp_bytes": 0, "conn_state": "REJ"}
    packets = {"history": "Sr", "orig_pkts": 1, "orig_ip_bytes": 60, "resp_pkts": 1, "resp_ip_bytes": 40}
    ends = {"id.orig_h": source, "id.resp_h": "10.0.0.5"}
    return [
        {"ts": start_s + at * 0.05, "id.resp_p": 20 + 37 * at, **ends, **closed, **packets}
        for at in range(60)
    ]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flows = web(1.7e9, 300, 0) + sweep(1.7e9 + 300, "10.0.0.66")
    return write_log(tmp_path_factory.mktemp("logs") / "conn.log", flows)


def test_the_model_in_the_box_is_intact_small_and_names_no_path_of_a_machine():
    artifact = load_artifact(BUILT_IN)
    artifact.exports["onnx"].check()
    assert artifact.exports["onnx"].is_current
    assert artifact.classes.benign == "benign"
    assert sum(path.stat().st_size for path in BUILT_IN.iterdir()) < 8 << 20
    for name in ("wirebert.json", "README.md"):
        text = (BUILT_IN / name).read_text(encoding="utf-8")
        assert not any(place in text for place in ("/tmp", "/home", "/work", "/root"))
    card = (BUILT_IN / "README.md").read_text(encoding="utf-8")
    assert card.count("## What it is not") == 1


def test_the_model_in_the_box_finds_most_generated_attacks_and_passes_most_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tables = list(captures(24, seed=77))
    write_conn_log(tmp_path / "conn.log", tables, seed=77)
    assert main(["predict", "builtin", str(tmp_path / "conn.log"), "--out", str(tmp_path / "v.jsonl")]) == 0
    capsys.readouterr()
    alerts = np.array([verdict["verdict"] == "alert" for verdict in read_lines(tmp_path / "v.jsonl")])
    labels = np.array([label for table in tables for label in table["label"].to_pylist()])
    assert alerts[labels == "scan"].mean() > 0.8
    assert alerts[labels == "benign"].mean() < 0.04


def test_a_hunt_ranks_the_scanner_first_as_one_group_with_reasons(
    scanned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "hunt.jsonl"
    assert main(["hunt", str(scanned), "--top", "3", "--out", str(out)]) == 0
    printed, told = capsys.readouterr()
    assert "no model was given" in told
    assert max(map(len, printed.splitlines())) <= 80
    assert main(["hunt", "builtin", str(scanned), "--top", "1"]) == 0
    assert "no model was given" not in capsys.readouterr().err
    assert "60 ports of 10.0.0.5 in 3.0 s; 60 of 60 refused or unanswered" in printed
    groups = read_lines(out)
    assert [group["source"] for group in groups].count("10.0.0.66") == 1
    first = groups[0]
    assert (first["rank"], first["source"], first["class_name"]) == (1, "10.0.0.66", "scan")
    assert first["num_above_threshold"] >= 55
    assert first["reasons"]
    assert all(reason["normal"] != reason["value"] for reason in first["reasons"])
    assert first["evidence"][0].startswith("60 ports")


def test_the_page_of_the_service_shows_what_a_hunt_wrote_and_takes_marks(scanned: Path, tmp_path: Path):
    from wirebert.service.incidents import Incidents, MarkRequest

    out = tmp_path / "hunt.jsonl"
    assert main(["hunt", str(scanned), "--out", str(out)]) == 0
    incidents = Incidents(out)
    try:
        latest = {one["source"]: one for one in incidents.latest()}
        found = latest["10.0.0.66"]
        assert incidents.mark(MarkRequest(incident_id=found["incident_id"], mark="bad"), "me")
    finally:
        incidents.close()
    marks = read_lines(tmp_path / "hunt.jsonl.feedback.jsonl")
    assert {mark["flow"]["src_ip"] for mark in marks} == {"10.0.0.66"}
    assert {mark["mark"] for mark in marks} == {"bad"}


def test_where_nothing_is_above_the_threshold_the_least_usual_flows_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    log = write_log(tmp_path / "conn.log", web(1.7e9, 12, 1))
    out = tmp_path / "hunt.csv"
    assert main(["hunt", "builtin", str(log), "--top", "2", "--out", str(out), "--fpr", "0.0001"]) == 0
    printed, _ = capsys.readouterr()
    assert "nothing above the threshold. The least usual are:" in printed
    assert printed.count("from 10.0.0.") == 2
    assert len(out.read_text(encoding="utf-8").splitlines()) == 3


def test_several_logs_and_standard_input_are_hunted_together(
    scanned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = write_log(tmp_path / "other.log", web(1.6e9, 50, 2) + sweep(1.6e9, "10.9.9.9"))
    assert main(["hunt", str(scanned), str(other)]) == 0
    printed, _ = capsys.readouterr()
    assert printed.startswith("470 flows, ")
    assert "from 10.0.0.66" in printed
    assert "from 10.9.9.9" in printed


def test_the_first_place_is_a_model_if_it_holds_one(tmp_path: Path, trained: Path):
    assert model_and_logs(["a.log", "b.log"]) == (BUILT_IN, ("a.log", "b.log"))
    assert model_and_logs(["builtin", "a.log"]) == (BUILT_IN, ("a.log",))
    assert model_and_logs([str(trained), "a.log"]) == (trained / "model", ("a.log",))
    with pytest.raises(ConfigError, match=r"is a model, found no log after it; .*conn\.log"):
        model_and_logs(["builtin"])


def test_a_trained_model_hunts_too(trained: Path, traffic: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["hunt", str(trained), str(traffic / "test.csv"), "--top", "2"]) == 0
    printed, told = capsys.readouterr()
    assert "no model was given" not in told
    assert " flows, " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top", "0"], "--top must be at least 1"),
        (["--gap", "0"], "--gap above 0"),
        (["--out", "x.txt"], "expected a name that ends in one of"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[str], message: str, scanned: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["hunt", str(scanned), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_log_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]):
    assert main(["hunt", "no-such.log"]) == 2
    assert "no-such.log" in capsys.readouterr().err
