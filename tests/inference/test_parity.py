import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.operating_point import NO_OPERATING_POINT, AlertBudget
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.engines import ENGINES
from wirebert.inference.export import export_model
from wirebert.inference.parity import Alerts, ParityReport, compare_scores, random_rows
from wirebert.inference.torch_backend import HALF_BOUNDS

GOOD = ParityReport(
    num_rows=9, rows="given", max_difference=0.0005, mean_difference=0.0001, same_class=1.0, same_verdict=1.0
)


@pytest.mark.parametrize(
    ("way", "changes", "fault"),
    [
        ("onnx-int8", {}, None),
        ("onnx-int8", {"same_class": 0.97}, "97.0% of rows get the same class"),
        ("onnx-int8", {"same_verdict": 0.97}, "97.0% of rows get the same verdict"),
        ("onnx-int8", {"mean_difference": 0.02}, "differ by 0.02 on average"),
        ("onnx-int8", {"max_difference": 0.2}, None),
        ("onnx", {"max_difference": 0.2}, "differ by up to 0.2"),
        ("fp16", {}, None),
        ("fp16", {"same_verdict": 0.99}, "99.0% of rows get the same verdict"),
        ("fp16", {"mean_difference": 0.005}, "differ by 0.005 on average"),
        ("fp16", {"mean_difference": math.nan}, "differ by nan on average"),
        ("onnx", {"max_difference": math.nan}, "differ by up to nan"),
    ],
)
def test_what_is_asked_of_each_engine(way: str, changes: dict[str, float], fault: str | None):
    bounds = HALF_BOUNDS if way == "fp16" else ENGINES[way].bounds
    assert bounds is not None
    found = replace(GOOD, **changes).fault(bounds)  # pyright: ignore[reportArgumentType]
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_near_probabilities_may_be_other_verdicts():
    expected = np.array([[0.011, 0.989], [0.009, 0.991], [0.5, 0.5], [0.9, 0.1]])
    found = expected + np.array([[-0.002, 0.002], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    far = compare_scores(found, expected, Alerts(benign=0, threshold=0.99), "given")
    assert (far.same_class, far.same_verdict) == (1.0, 0.75)
    assert far.max_difference == pytest.approx(0.002)
    assert far.mean_difference == pytest.approx(0.002 * 2 / 8)
    assert "75.00% the same verdict" in far.summary
    assert compare_scores(found, expected, None, "given").same_verdict is None


def test_alerts_are_raised_where_the_artifact_was_set(artifact: Artifact):
    assert Alerts.of(artifact) is None
    budget = AlertBudget(threshold=0.7, alerts_per_10000=1.0, num_flows=10, num_alerts=0)
    alerts = Alerts.of(replace(artifact, operating_point=replace(NO_OPERATING_POINT, alert_budget=budget)))
    assert alerts is not None
    assert alerts == Alerts(benign=0, threshold=0.7)
    assert alerts.raised(np.array([[0.3, 0.7, 0.0], [0.4, 0.3, 0.3]])).tolist() == [True, False]


def test_where_novelty_raises_alerts_too_it_counts_in_verdicts():
    known = np.linspace(0, 1, 101)
    alert_score = CombinedAlertScore.fit(known, known)
    alerts = Alerts(benign=0, threshold=2.4, alert_score=alert_score)
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.6, 0.4]])
    assert alerts.raised(probabilities, np.array([0.0, 0.9, 0.9])).tolist() == [False, True, True]
    expected, found = np.array([[0.5, 0.5]] * 2), np.array([[0.62, 0.38]] * 2)
    assert compare_scores(found, expected, alerts, "given", np.array([0.0, 0.85])).same_verdict == 0.5


def test_rows_without_a_novelty_get_that_of_some_benign_flow():
    known = np.linspace(0, 1, 101)
    alert_score = CombinedAlertScore.fit(known, known)
    same = np.full((500, 2), 0.5)
    # Half of benign flows have such an attack score: 0.69 nats. A threshold of 2 nats asks for a novelty that
    # 27 % have.
    raised = Alerts(benign=0, threshold=2.0, alert_score=alert_score).raised(same)
    assert 0.2 < raised.mean() < 0.34
    assert (Alerts(benign=0, threshold=2.0, alert_score=alert_score).raised(same) == raised).all()


@pytest.mark.parametrize("leave_out", [True, False])
def test_random_rows_hold_one_token_per_slot_at_most(artifact: Artifact, table: pa.Table, leave_out: bool):
    tokenizer = FlowTokenizer.fit(artifact.schema, [table], EncodingConfig(omit_most_frequent=leave_out))
    block = random_rows(tokenizer, 200)
    rows = np.split(block.ids, block.offsets[1:-1])
    assert len(rows) == 200
    for row in rows:
        slots = tokenizer.token_slots[row[1:]]
        assert row[0] == tokenizer.cls_id
        assert (slots >= 0).all()
        assert (np.diff(slots) > 0).all()
        assert leave_out or len(slots) == len(tokenizer.slots)


def test_random_rows_have_texts_that_fit(make_artifact, tmp_path: Path):  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]
    from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema

    schema = FlowSchema(name="web", columns=(Column(name="uri", kind=ColumnKind.TEXT, is_feature=True),))
    artifact, _ = make_artifact(schema, pa.table({"uri": ["/a", "/b?id=1"]}))
    lengths = np.diff(random_rows(artifact.tokenizer, 50).offsets)
    assert lengths.min() >= 2
    assert len(set(lengths.tolist())) > 5
    assert lengths.max() <= artifact.tokenizer.config.max_length
    save_artifact(artifact, tmp_path / "model", card="")
    assert export_model(tmp_path / "model", "onnx")[1].same_class == 1
