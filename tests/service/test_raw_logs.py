import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from wirebert.service.bodies import CSV, JSON, JSON_LINES, TEXT
from wirebert.service.handlers import RequestHandler, ScoreRequest, ScoreResponse
from wirebert.service.limits import Limits, RequestError
from wirebert.service.raw_logs import is_sensor_log

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact
    from wirebert.inference.detector import Detector
    from wirebert.model.distilbert import DistilBert

    Untrained = Callable[..., tuple[Artifact, DistilBert]]

UNREADABLE = ("no-flows", "eve-vlan-number.json")
"""Cases that `predict` refuses."""
CASES = Path(__file__).parents[1] / "cases"
LIMITS = Limits(max_body_mb=1024, max_rows=1_000_000)
KEYS = "ts uid src_ip src_port dst_ip dst_port protocol predicted_class verdict".split()


def zeek_tabs(num_flows: int = 40) -> bytes:
    from wirebert.data.synthetic import generate
    from wirebert.data.synthetic.conn_log import write_conn_log

    table = next(iter(generate(num_flows, 3, stealthy=True))).slice(0, num_flows)
    with tempfile.TemporaryDirectory() as folder:
        write_conn_log(Path(folder) / "conn.log", [table], 3)
        return (Path(folder) / "conn.log").read_bytes()


def zeek_json() -> bytes:
    head, *rows = [line for line in zeek_tabs().decode().splitlines() if line.startswith(("#fields", "1"))]
    names = head.split("\t")[1:]
    flows: list[dict[str, object]] = []
    for row in rows:
        texts = {name: text for name, text in zip(names, row.split("\t"), strict=True) if text != "-"}
        numbers = {n for n in texts if n in ("ts", "duration") or n.endswith(("_p", "_bytes", "_pkts"))}
        flows.append({n: json.loads(t) if n in numbers else t for n, t in texts.items()})
    return b"".join(json.dumps(flow).encode() + b"\n" for flow in flows)


def eve() -> bytes:
    def flow(n: int) -> dict[str, object]:
        start = f"2024-05-01T00:{n % 60:02d}:00.000000+0000"
        counts = {"pkts_toserver": n, "pkts_toclient": 3, "bytes_toserver": 90 * n, "bytes_toclient": 400}
        ends = {"src_ip": f"10.0.0.{n % 5}", "dest_ip": "10.1.0.1", "src_port": 4000 + n, "dest_port": 443}
        flow = {**counts, "start": start, "end": start}
        about = {"event_type": "flow", "flow_id": n, "proto": "TCP", "app_proto": "tls", "timestamp": start}
        return {**about, **ends, "flow": flow, "tcp": {"tcp_flags_ts": "1b", "tcp_flags_tc": "12"}}

    return b"".join(json.dumps(flow(n)).encode() + b"\n" for n in range(1, 30))


def binetflow() -> bytes:
    head = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes"
    rows = [
        f"2011/08/10 09:46:{n % 60:02d}.000000,{n / 7:.6f},tcp,10.0.0.{n % 4},{1000 + n},   ->,10.1.0.1,80,"
        f"S_RA,0,0,{n + 2},{100 * n + 200},{40 * n + 120}"
        for n in range(30)
    ]
    return "\n".join([head, *rows, ""]).encode()


LOGS: dict[str, Callable[[], bytes]] = {
    "zeek_tabs": zeek_tabs,
    "zeek_json": zeek_json,
    "eve": eve,
    "binetflow": binetflow,
}


def shared_logs() -> Iterator[str]:
    """The sensor logs among the cases; which of them are recognised is a matter of the readers."""
    for path in sorted(CASES.rglob("*")):
        if path.is_file() and path.suffix in (".log", ".json", ".csv"):
            try:
                is_log = is_sensor_log(path.read_bytes())
            except RequestError:
                continue
            if is_log and not {path.parent.name, path.name} & set(UNREADABLE):
                yield str(path.relative_to(CASES))


def detector_for(path: Path, make_artifact: "Untrained", *, context: bool | None = None) -> "Detector":
    from wirebert.data.flows import DataConfig, open_flows
    from wirebert.inference.detector import Detector

    flows = open_flows(path, DataConfig(context=context))
    table = pa.concat_tables(flows.blocks()).combine_chunks()
    return Detector(make_artifact(flows.schema, table)[0], backend="torch")


def predicted(detector: "Detector", path: Path) -> list[dict[str, Any]]:
    from wirebert.data.flows import open_flows
    from wirebert.inference.predictions import predict_blocks

    blocks = predict_blocks(detector, open_flows(path, schema=detector.schema))
    return [row for block in blocks for row in block.to_pylist()]


def post(detector: "Detector", body: bytes, kind: str) -> dict[str, Any]:
    request = ScoreRequest(content_type=kind, body=body, answer_type=JSON)
    (answer,) = RequestHandler(detector, LIMITS).handle([request])
    assert isinstance(answer, ScoreResponse), answer
    return json.loads(answer.content)


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    assert [[row.get(key) for key in KEYS] for row in found] == [
        [row.get(key) for key in KEYS] for row in expected
    ]
    scores = [[row["attack_score"] for row in rows] for rows in (found, expected)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def assert_whole_equals_predict(body: bytes, tmp_path: Path, make_artifact: "Untrained") -> None:
    path = tmp_path / "flows.log"  # a name without neighbours
    path.write_bytes(body)
    detector = detector_for(path, make_artifact)
    expected = predicted(detector, path)
    assert expected
    for kind in (TEXT, JSON_LINES, CSV):
        assert_same(post(detector, body, kind)["flows"], expected)


@pytest.mark.parametrize("name", [*LOGS, *shared_logs()])
def test_a_sensor_log_gets_the_verdicts_of_predict(name: str, tmp_path: Path, make_artifact: "Untrained"):
    body = LOGS[name]() if name in LOGS else (CASES / name).read_bytes()
    assert is_sensor_log(body)
    assert_whole_equals_predict(body, tmp_path, make_artifact)


@pytest.mark.parametrize(
    "name",
    "argus/comma.binetflow.gz argus/tab.binetflow netflow/nfdump.csv.gz suricata/eve.json.gz "
    "zeek-json/conn.log zeek-labeled/conn.log.labeled zeek-scans/vertical.conn.log zeek-tsv/conn.log".split(),
)
def test_a_real_sensor_log_gets_the_verdicts_of_predict(
    name: str, data_dir: Path, tmp_path: Path, make_artifact: "Untrained"
):
    packed = (data_dir / "sensors" / name).read_bytes()
    body = gzip.decompress(packed) if name.endswith(".gz") else packed
    assert_whole_equals_predict(body, tmp_path, make_artifact)


def pieces(body: bytes, size: int) -> list[bytes]:
    """The log cut after every `size` flows, each piece under the head of the log."""
    lines = body.splitlines(keepends=True)
    num_head = next(i for i, line in enumerate(lines) if line[:1].isdigit() or line[:1] == b"{")
    head, rows = b"".join(lines[:num_head]), [line for line in lines[num_head:] if line[:1] != b"#"]
    return [head + b"".join(rows[at : at + size]) for at in range(0, len(rows), size)]


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize("name", LOGS)
def test_pieces_of_a_log_get_the_same_verdicts_from_a_model_without_context(
    name: str, size: int, tmp_path: Path, make_artifact: "Untrained"
):
    path, body = tmp_path / "flows.log", LOGS[name]()
    path.write_bytes(body)
    detector = detector_for(path, make_artifact, context=False)
    answers = [post(detector, piece, TEXT) for piece in pieces(body, size)[:12]]
    assert {answer["flows_without_history"] for answer in answers} == {0}
    rows = [row for answer in answers for row in answer["flows"]]
    assert len(rows) >= 12
    assert_same(rows, predicted(detector, path)[: len(rows)])


def test_flows_whose_context_a_piece_does_not_hold_are_counted(tmp_path: Path, make_artifact: "Untrained"):
    path, body = tmp_path / "flows.log", zeek_tabs(20)
    path.write_bytes(body)
    detector = detector_for(path, make_artifact)
    for size in (1, 10):
        answers = [post(detector, piece, TEXT) for piece in pieces(body, size)]
        assert sum(len(answer["flows"]) for answer in answers) == len(predicted(detector, path))
        assert all(answer["flows_without_history"] > 0 for answer in answers)
    assert answers[0]["flows_without_history"] <= len(answers[0]["flows"])


def test_rows_of_a_zeek_log_in_a_json_body_are_read_as_the_log(tmp_path: Path, make_artifact: "Untrained"):
    path, body = tmp_path / "flows.log", zeek_json()
    path.write_bytes(body)
    detector = detector_for(path, make_artifact)
    rows = [json.loads(line) for line in body.splitlines()]
    assert_same(
        post(detector, json.dumps({"flows": rows}).encode(), JSON)["flows"], predicted(detector, path)
    )


def test_a_line_that_is_no_flow_is_refused_and_named(tmp_path: Path, make_artifact: "Untrained"):
    path = tmp_path / "flows.log"
    path.write_bytes(zeek_tabs(20))
    detector = detector_for(path, make_artifact)
    request = ScoreRequest(content_type=TEXT, body=zeek_tabs(20) + b"1\t2\n", answer_type=JSON)
    (answer,) = RequestHandler(detector, LIMITS).handle([request])
    assert isinstance(answer, RequestError)
    assert answer.status == 422
    assert "/proc" not in str(answer)
    assert "found 2" in str(answer)
