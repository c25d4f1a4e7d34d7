"""Values that the model has never seen are told (README.md, category-spelling)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wirebert.cli.main import main
from wirebert.inference.detector import Detector
from wirebert.service.bodies import CSV, JSON
from wirebert.service.handlers import RequestHandler, ScoreRequest, ScoreResponse
from wirebert.service.limits import Limits

CASES = Path(__file__).parent
TOLD = "column 'proto' holds values that the model has never seen"


@pytest.fixture(scope="module")
def model(train_case: Callable[[Path], Path]) -> Path:
    return train_case(CASES / "label-not-last" / "last.csv")


def test_a_new_value_in_every_row_is_told(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    file, out = CASES / "category-spelling" / "new-value.csv", tmp_path / "out.csv"
    assert main(["predict", str(model), str(file), "--out", str(out), "--strict"]) == 2
    told = capfd.readouterr().err
    assert f"unseen_values: {TOLD}" in told
    assert "40 of 40 rows" in told
    assert len(out.read_text().splitlines()) == 41


def test_a_new_value_in_every_row_is_told_by_a_service(model: Path):
    body = (CASES / "category-spelling" / "new-value.csv").read_bytes()
    request = ScoreRequest(content_type=CSV, body=body, answer_type=JSON)
    (answer,) = RequestHandler(Detector.load(model), Limits()).handle([request])
    assert isinstance(answer, ScoreResponse)
    (finding,) = [one for one in json.loads(answer.content)["findings"] if one["code"] == "unseen_values"]
    assert (finding["column"], finding["count"]) == ("proto", 40)


def test_values_of_the_training_are_no_finding(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    file = CASES / "label-not-last" / "last.csv"
    assert main(["predict", str(model), str(file), "--out", str(tmp_path / "out.csv")]) == 0
    assert "unseen" not in capfd.readouterr().err
