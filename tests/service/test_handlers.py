import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.encoding.matrix import extract_features
from wirebert.encoding.token_rows import JaggedRows
from wirebert.inference.attribution import Attributions
from wirebert.inference.detector import Detector
from wirebert.service.bodies import ARROW, CSV, JSON, JSON_LINES
from wirebert.service.handlers import RequestHandler, ScoreRequest, ScoreResponse
from wirebert.service.limits import Limits, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert


@pytest.fixture(scope="module")
def handler(artifact: "Artifact") -> RequestHandler:
    return RequestHandler(Detector(artifact, allow_absent=True), Limits(max_explained=3))


def rows_of(table: pa.Table) -> list[dict[str, object]]:
    return [
        {name: value for name, value in row.items() if value != float("inf")}
        for row in table.drop_columns(["label"]).to_pylist()
    ]


def ask(rows: list[dict[str, object]], answer_type: str = JSON, *, explains: bool = False) -> ScoreRequest:
    return ScoreRequest(
        content_type=JSON,
        body=json.dumps({"flows": rows}).encode(),
        answer_type=answer_type,
        explains=explains,
    )


def verdicts(answer: ScoreResponse | RequestError) -> list[dict[str, object]]:
    assert isinstance(answer, ScoreResponse)
    return json.loads(answer.content)["flows"]


def test_verdicts_are_those_of_predict_on_a_file_of_the_same_rows(
    artifact: "Artifact", table: pa.Table, tmp_path: Path
):
    from wirebert.data.flows import open_flows
    from wirebert.inference.predictions import open_writer, predict_blocks

    handler = RequestHandler(Detector(artifact), Limits())
    lines = "".join(json.dumps(row) + "\n" for row in rows_of(table))
    (tmp_path / "flows.jsonl").write_text(lines)
    detector = Detector(artifact)
    flows = open_flows(tmp_path / "flows.jsonl", schema=detector.schema)
    with open_writer(tmp_path / "out.jsonl") as writer:
        for block in predict_blocks(detector, flows):
            writer.write(block)
    request = ScoreRequest(content_type=JSON_LINES, body=lines.encode(), answer_type=JSON_LINES)
    (answer,) = handler.handle([request])
    assert isinstance(answer, ScoreResponse)
    expected = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    found = [json.loads(line) for line in answer.content.decode().splitlines()]
    assert len(found) == 60
    for one, other in zip(found, expected, strict=True):
        assert_near(one, other)


def assert_near(verdict: dict[str, Any], expected: dict[str, Any]) -> None:
    assert verdict.pop("warnings") == expected.pop("warnings")
    assert verdict == pytest.approx(expected, abs=1e-6)


def test_questions_answered_together_get_what_they_get_alone(handler: RequestHandler, table: pa.Table):
    rows = rows_of(table)
    requests = [
        ask(rows[:5]),
        ask([{"bytes": 12, "service": "http"}]),
        ask([]),
        ask(rows[5:7]),
        ask([{"bytes": "12", "service": "http"}]),
        ScoreRequest(
            content_type=CSV,
            body=b"src_ip,dst_port,duration,bytes,service,flags\n,,,12,http,\n",
            answer_type=JSON,
        ),
        ScoreRequest(content_type=CSV, body=b"bytes,service\n0,dns\n", answer_type=JSON),
    ]
    together = handler.handle(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = handler.handle([request])
        for one, other in zip(verdicts(answer), verdicts(alone), strict=True):
            assert_near(one, other)
    assert verdicts(together[1]) == verdicts(together[4])
    assert verdicts(together[1])[0]["p_dos"] == pytest.approx(verdicts(together[5])[0]["p_dos"])


def test_each_question_counts_its_rows_from_zero(handler: RequestHandler, table: pa.Table):
    found = handler.handle([ask(rows_of(table)[:3]), ask(rows_of(table)[3:5])])
    assert [[row["row"] for row in verdicts(answer)] for answer in found] == [[0, 1, 2], [0, 1]]


def test_a_question_that_can_not_be_answered_leaves_the_others_alone(
    handler: RequestHandler, table: pa.Table
):
    found = handler.handle(
        [
            ask(rows_of(table)[:2]),
            ask([{"nothing": 1}]),
            ScoreRequest(content_type=CSV, body=b"", answer_type=JSON),
        ]
    )
    assert len(verdicts(found[0])) == 2
    assert [one.status for one in found[1:] if isinstance(one, RequestError)] == [422, 422]


def test_values_that_are_no_numbers_are_told_to_who_sent_them_alone(handler: RequestHandler):
    found = handler.handle([ask([{"bytes": "many", "duration": 1}]), ask([{"bytes": 1, "duration": 1}])])
    told = [json.loads(one.content)["invalid_values"] for one in found if isinstance(one, ScoreResponse)]
    assert told == [{"bytes": 1}, {}]
    assert [one.num_invalid for one in found if isinstance(one, ScoreResponse)] == [1, 0]


def test_no_flows_get_no_verdicts_in_every_format(handler: RequestHandler):
    json_answer, lines, arrow = handler.handle([ask([], kind) for kind in (JSON, JSON_LINES, ARROW)])
    assert verdicts(json_answer) == []
    assert isinstance(lines, ScoreResponse)
    assert lines.content == b""
    assert isinstance(arrow, ScoreResponse)
    assert pa.ipc.open_stream(io.BytesIO(arrow.content)).read_all().num_rows == 0


def test_an_arrow_stream_comes_back_as_one(handler: RequestHandler, table: pa.Table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    request = ScoreRequest(content_type=ARROW, body=sink.getvalue(), answer_type=ARROW)
    (answer,) = handler.handle([request])
    assert isinstance(answer, ScoreResponse)
    found = pa.ipc.open_stream(io.BytesIO(answer.content)).read_all()
    expected = Detector(handler.detector.artifact).score(table)
    np.testing.assert_allclose(found["p_dos"].to_numpy(), expected.probabilities[:, 1], atol=1e-6)


def test_reasons_are_given_to_the_most_suspicious_flows_only(handler: RequestHandler, table: pa.Table):
    found = verdicts(handler.handle([ask(rows_of(table)[:2]), ask(rows_of(table), explains=True)])[1])
    explained = [row for row in found if row["explanation"] is not None]
    attacks = [row for row in found if row["predicted_class"] != "normal"]
    assert len(attacks) > 3
    assert len(explained) == 3
    highest = sorted((float(str(row["attack_score"])) for row in attacks), reverse=True)[:3]
    assert sorted((float(str(row["attack_score"])) for row in explained), reverse=True) == highest
    assert all(isinstance(row["explanation"], list) and row["explanation"] for row in explained)


def test_flows_of_who_does_not_ask_for_reasons_are_not_explained(
    handler: RequestHandler, table: pa.Table, monkeypatch: pytest.MonkeyPatch
):
    nums: list[int] = []
    explain = Detector.explain_encoded

    def counted(self: Detector, block: JaggedRows, class_ids: np.ndarray) -> Attributions:
        nums.append(len(block))
        return explain(self, block, class_ids)

    monkeypatch.setattr(Detector, "explain_encoded", counted)
    handler.handle([ask(rows_of(table)), ask(rows_of(table), explains=True), ask(rows_of(table))])
    handler.handle([ask(rows_of(table))])
    assert nums == [3]


def test_where_alerts_go_by_novelty_too_so_do_reasons(artifact: "Artifact", table: pa.Table):
    novelty_scorer = NoveltyScorer.fit(extract_features(table.slice(0, 20), artifact.schema), 20, 0)
    known = Detector(artifact).score(table).attack_score
    assert known is not None
    alert_score = CombinedAlertScore.fit(
        known, novelty_scorer.scores(extract_features(table, artifact.schema))
    )
    joined = replace(
        artifact, novelty=novelty_scorer, operating_point=replace(NO_OPERATING_POINT, alert_score=alert_score)
    )
    handler = RequestHandler(Detector(joined), Limits(max_explained=3))
    found = verdicts(handler.handle([ask(rows_of(table), explains=True)])[0])
    attacks = [row for row in found if row["predicted_class"] != "normal"]
    highest = sorted((float(str(row["alert_score"])) for row in attacks), reverse=True)[:3]
    explained = [float(str(row["alert_score"])) for row in found if row["explanation"] is not None]
    assert sorted(explained, reverse=True) == highest


def test_classes_are_counted_where_there_is_no_verdict(handler: RequestHandler, table: pa.Table):
    (answer,) = handler.handle([ask(rows_of(table))])
    assert isinstance(answer, ScoreResponse)
    assert set(answer.verdicts) <= {"normal", "dos", "probe"}
    assert sum(answer.verdicts.values()) == answer.num_flows == 60


def test_flows_of_one_question_are_the_context_of_each_other_and_of_no_other(
    make_artifact: "Callable[..., tuple[Artifact, DistilBert]]",
):
    from wirebert.data.context.context import FlowContext, with_context
    from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
    from wirebert.data.windows import ContextWindows

    kinds = {
        "ts": ColumnKind.TIME,
        "src_ip": ColumnKind.ADDRESS,
        "dst_ip": ColumnKind.ADDRESS,
        "dst_port": ColumnKind.PORT,
        "duration": ColumnKind.DURATION,
    }
    columns = tuple(
        Column(name=name, kind=kind, is_feature=kind.can_be_feature) for name, kind in kinds.items()
    )
    schema = with_context(FlowSchema(name="flows", columns=columns), ContextWindows())
    rows: list[dict[str, object]] = [
        {
            "ts": f"{1_772_409_600 + 5 * n}",
            "src_ip": "10.0.0.1",
            "dst_ip": f"10.0.1.{n}",
            "dst_port": 80.0,
            "duration": 1.0,
        }
        for n in range(40)
    ]
    bare = pa.Table.from_pylist(rows)
    artifact, _ = make_artifact(schema, FlowContext(ContextWindows()).append(bare))
    handler = RequestHandler(Detector(artifact), Limits())
    whole, first, second = handler.handle([ask(rows), ask(rows[:20]), ask(rows[20:])])
    scores = [
        [float(str(row["attack_score"])) for row in verdicts(answer)] for answer in (whole, first, second)
    ]
    np.testing.assert_allclose(scores[0][:20], scores[1], atol=1e-6)
    assert not np.allclose(scores[0][20:], scores[2], atol=1e-6)
