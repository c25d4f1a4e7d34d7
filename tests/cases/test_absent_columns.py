"""Traffic that lacks features of the model: told by name, or refused (README.md, absent-columns)."""

import json
import shutil
from pathlib import Path

import pytest

from wirebert.cli.main import main
from wirebert.inference.detector import Detector
from wirebert.service.bodies import CSV, JSON, JSON_LINES
from wirebert.service.handlers import RequestHandler, ScoreRequest, ScoreResponse
from wirebert.service.limits import Limits, RequestError

CASES = Path(__file__).parent / "absent-columns"
TWO = "2 of 9 features are absent: 'TotLen Fwd Pkts', 'SYN Flag Cnt'"
OTHERS = (
    "'Dst Port', 'Flow Duration', 'Tot Fwd Pkts', 'Tot Bwd Pkts', 'TotLen Fwd Pkts', 'TotLen Bwd Pkts', "
    "'Flow Byts/s', 'SYN Flag Cnt'"
)


def answer_to(
    model: Path, body: bytes, kind: str = CSV, *, allow_absent: bool = False
) -> ScoreResponse | RequestError:
    handler = RequestHandler(Detector.load(model, allow_absent=allow_absent), Limits())
    return handler.handle([ScoreRequest(content_type=kind, body=body, answer_type=JSON)])[0]


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "MODEL", "two-lacking.csv", "--out", "OUT/verdicts.jsonl"],
        ["evaluate", "MODEL", "two-lacking.csv", "--out", "OUT/report"],
        ["calibrate", "MODEL", "two-lacking.csv", "--alerts-per-10000", "5000", "--out", "OUT/model"],
        ["inspect", "train.csv", "--test", "two-lacking.csv"],
    ],
    ids=lambda command: command[0],
)
def test_absent_features_are_told_by_name_and_strict_fails_after_the_output(
    command: list[str], cases_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words = {"MODEL": str(cases_model)}
    arguments = [
        str(CASES / word) if word.endswith(".csv") else words.get(word, word.replace("OUT", str(tmp_path)))
        for word in command
    ]
    assert main([*arguments, "--strict"]) == 2
    told = capfd.readouterr()
    assert TWO in told.out + told.err
    assert "--strict: " in told.err
    outputs = list(tmp_path.iterdir())
    assert len(outputs) == (0 if command[0] == "inspect" else 1)
    if command[0] == "evaluate":
        report = json.loads((tmp_path / "report" / "report.json").read_text())
        assert "absent_features" in [one["code"] for one in report["data"]["findings"]]


def test_training_tells_what_its_test_file_lacks(
    cases_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    settings = ["model.size=mini", "training.epochs=1", "evaluation.baseline=false"]
    options = [option for setting in settings for option in ("--set", setting)]
    test = ["--test", str(CASES / "two-lacking.csv"), "--out", str(tmp_path / "run")]
    assert main(["train", str(CASES / "train.csv"), *test, *options]) == 0
    assert TWO in capfd.readouterr().out
    findings = json.loads((tmp_path / "run" / "report.json").read_text())["data"]["findings"]
    assert "absent_features" in [one["code"] for one in findings]


def test_a_service_tells_it_in_the_answer(cases_model: Path):
    answer = answer_to(cases_model, (CASES / "two-lacking.csv").read_bytes())
    assert isinstance(answer, ScoreResponse)
    content = json.loads(answer.content)
    assert len(content["flows"]) == 40
    assert [one["code"] for one in content["findings"]] == ["absent_features"]
    assert TWO in content["findings"][0]["message"]


@pytest.mark.parametrize("command", ["predict", "evaluate", "calibrate", "inspect"])
def test_one_feature_in_common_is_refused_and_the_others_named(
    command: str, cases_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    file, out = str(CASES / "one-in-common.csv"), str(tmp_path / "out.jsonl")
    arguments = {
        "predict": ["predict", str(cases_model), file, "--out", out],
        "evaluate": ["evaluate", str(cases_model), file, "--label", "note"],
        "calibrate": ["calibrate", str(cases_model), file, "--alerts-per-10000", "9", "--out", out],
        "inspect": ["inspect", str(CASES / "train.csv"), "--test", file],
    }[command]
    assert main(arguments) == 2
    told = capfd.readouterr()
    assert f"8 of 9 features are absent: {OTHERS}" in told.err
    assert not told.out
    assert not list(tmp_path.iterdir())


def test_one_feature_in_common_is_scored_where_that_is_allowed(
    cases_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    arguments = ["predict", str(cases_model), str(CASES / "one-in-common.csv")]
    assert main([*arguments, "--out", str(tmp_path / "out.csv"), "--allow-absent"]) == 0
    assert "8 of 9 features are absent" in capfd.readouterr().err
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 41


def test_a_service_refuses_one_feature_in_common(cases_model: Path):
    body = (CASES / "one-in-common.csv").read_bytes()
    answer = answer_to(cases_model, body)
    assert isinstance(answer, RequestError)
    assert answer.status == 422
    assert f"8 of 9 features are absent: {OTHERS}" in str(answer)
    assert isinstance(answer_to(cases_model, body, allow_absent=True), ScoreResponse)


def test_a_followed_log_is_refused_like_a_file(
    cases_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    log = tmp_path / "flows.csv"
    shutil.copy(CASES / "one-in-common.csv", log)
    arguments = ["monitor", str(cases_model), str(log), "--to", str(tmp_path / "out.jsonl")]
    assert main(arguments) == 2
    assert f"8 of 9 features are absent: {OTHERS}" in capfd.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_rows_that_omit_keys_get_the_same_verdicts_alone_together_and_from_a_file(
    cases_model: Path, tmp_path: Path
):
    header, *lines = (CASES / "same-names.csv").read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    for number, row in enumerate(rows):
        for name in ("TotLen Fwd Pkts", "SYN Flag Cnt", "Protocol")[: number % 4]:
            del row[name]
    texts = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "flows.jsonl").write_text("".join(texts))
    out = tmp_path / "out.jsonl"
    assert main(["predict", str(cases_model), str(tmp_path / "flows.jsonl"), "--out", str(out)]) == 0
    expected = [json.loads(line)["attack_score"] for line in out.read_text().splitlines()]
    for bodies in (["".join(texts)], texts):
        answers = [answer_to(cases_model, body.encode(), JSON_LINES) for body in bodies]
        contents = [json.loads(answer.content) for answer in answers if isinstance(answer, ScoreResponse)]
        found = [row["attack_score"] for content in contents for row in content["flows"]]
        assert found == pytest.approx(expected, abs=1e-6)
