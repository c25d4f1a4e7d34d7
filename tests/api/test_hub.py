"""What is uploaded, to a stand-in of the hub on this machine."""

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import wirebert as wb
from wirebert.api.hub import push, require_nothing_private, without_traces
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.errors import ArtifactError
from wirebert.inference.artifact import Artifact

CLASSES = ClassMap(classes=("benign", "dos"), benign="benign")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files asks for."""

    received: dict[str, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer: dict[str, Any] = {}
        if self.path == "/api/repos/create":
            answer = {"url": f"http://{self.headers['host']}/team/model", "name": "model"}
        elif self.path.endswith("/preupload/main"):
            files = [
                {**one, "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]
            ]
            answer = {"files": files}
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.received[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            answer = {"commitUrl": f"http://{self.headers['host']}/team/model/commit/1", "commitOid": "1"}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    Hub.received = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def column(name: str, kind: ColumnKind) -> Column:
    return Column(name=name, kind=kind, is_feature=True)


def model(make: Any, kind: ColumnKind, values: list[object], name: str = "state") -> Artifact:
    """An untrained model of one column beside a number."""
    schema = FlowSchema(name="flows", columns=(column(name, kind), column("bytes", ColumnKind.COUNT)))
    table = pa.table(
        {name: pa.array(list(map(str, values))), "bytes": pa.array([float(at) for at in range(len(values))])}
    )
    return make(schema, table, CLASSES)[0]


@pytest.fixture
def plain(untrained: Any) -> Artifact:
    artifact = model(untrained, ColumnKind.CATEGORY, ["SF", "S0", "SF", "REJ"] * 5)
    settings = {"train": "/home/alice/secret.csv", "test": [], "model": {"size": "/home/alice/small.json"}}
    return replace(artifact, origin={"settings": settings, "train_sha256": "ab"})


def test_a_model_is_uploaded_without_paths_of_this_machine(plain: Artifact, hub: str, tmp_path: Path):
    assert push(plain, "team/model", endpoint=hub, token="hf_x").endswith("team/model")
    assert {"config.json", "model.safetensors", "wirebert.json", "README.md", "model.onnx"} <= set(
        Hub.received
    )
    assert b"alice" not in b"".join(Hub.received.values())
    for name, content in Hub.received.items():
        (tmp_path / name).write_bytes(content)
    assert wb.load(tmp_path).features == ("state", "bytes")


def test_a_hub_that_is_not_there_is_told(plain: Artifact, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ArtifactError, match="team/model: the model could not be uploaded"):
        push(plain, "team/model", endpoint="http://127.0.0.1:9", token="hf_x")


@pytest.mark.parametrize(
    ("kind", "values", "name", "told"),
    [
        (
            ColumnKind.CATEGORY,
            ["192.168.7.1", "eth0"],
            "peer",
            "an IP address, '192.168.7.1' of column 'peer'",
        ),
        (ColumnKind.CATEGORY, ["fe80::1:2:3:4", "x"], "peer", "an IP address"),
        (ColumnKind.CATEGORY, ["00:1b:44:11:3a:b7", "x"], "peer", "a hardware address"),
        (ColumnKind.CATEGORY, ["alice", "bob"], "user_name", "names, of column 'user_name'"),
        (ColumnKind.CATEGORY, ["alice@example.org", "x"], "peer", "an e-mail address"),
        (ColumnKind.CATEGORY, ["www.example.com", "x"], "peer", "a host name"),
        (ColumnKind.CATEGORY, ["2026-01-02", "x"], "day", "a time"),
        (ColumnKind.TEXT, ["GET /a", "GET /b"], "uri", "fragments of payloads, in the vocabulary of 'uri'"),
    ],
)
def test_a_model_that_holds_what_others_must_not_see_is_refused(
    untrained: Any, kind: ColumnKind, values: list[object], name: str, told: str
):
    with pytest.raises(ArtifactError) as caught:
        require_nothing_private(model(untrained, kind, values * 10, name))
    assert told in str(caught.value)
    assert f"{name!r}" in str(caught.value).partition("; ")[2]


def test_the_networks_of_the_user_are_refused(untrained: Any):
    schema = FlowSchema(name="flows", columns=(column("src", ColumnKind.ADDRESS),))
    table = pa.table({"src": ["10.1.0.1", "8.8.8.8"] * 10})
    require_nothing_private(untrained(schema, table, CLASSES)[0])  # private or public is all that it knows
    config = EncodingConfig(networks=("10.1.0.0/16",))
    with pytest.raises(ArtifactError, match="addresses of your networks, for column 'src'"):
        require_nothing_private(untrained(schema, table, CLASSES, config)[0])


def test_rows_of_traffic_are_refused_with_the_way_out(detector: wb.Detector):
    with pytest.raises(ArtifactError, match=r"rows of its training traffic.*novelty_reference_flows=0"):
        detector.push_to_hub("team/model")


def test_notes_on_traffic_are_left_out(detector: wb.Detector):
    public = without_traces(detector.artifact)
    assert "train" not in public.origin["settings"]  # pyright: ignore[reportOperatorIssue]
    assert public.operating_point is not None
    assert public.operating_point.notes == ()
