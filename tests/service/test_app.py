"""The application, asked as a client asks it, without a socket."""

import asyncio
import csv
import gzip
import json
import logging
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from wirebert.inference.detector import Detector
from wirebert.service import app as web
from wirebert.service.api_keys import ApiKeys
from wirebert.service.app import create_app
from wirebert.service.bodies import ARROW, CSV, JSON, JSON_LINES
from wirebert.service.handlers import RequestHandler
from wirebert.service.limits import Limits
from wirebert.workflows.drift import fit_reference

pytestmark = pytest.mark.usefixtures("loop_of_its_own")

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact

KEY, OTHER = "k" * 20, "l" * 20
LIMITS = Limits(max_body_mb=1, max_rows=100)
FLOW = b'{"flows": [{"bytes": 12, "service": "http"}]}'
AS_JSON = {"content-type": JSON}


def client_of(artifact: "Artifact", limits: Limits = LIMITS, keys: str = "", **more: Any) -> TestClient:
    handler = RequestHandler(Detector(artifact, allow_absent=True), limits)
    return TestClient(create_app(handler, limits, ApiKeys(text=keys), **more), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(artifact: "Artifact") -> Iterator[TestClient]:
    with client_of(artifact) as client:
        yield client


def test_flows_get_verdicts(client: TestClient):
    answer = client.post("/v1/score", content=FLOW, headers=AS_JSON)
    assert answer.status_code == 200
    (verdict,) = answer.json()["flows"]
    assert sum(verdict[f"p_{name}"] for name in ("normal", "dos", "probe")) == pytest.approx(1)
    assert answer.headers["wirebert-invalid-values"] == "0"


@pytest.mark.parametrize("kind", [JSON, JSON_LINES, ARROW])
def test_verdicts_come_in_what_accept_asks_for(client: TestClient, kind: str):
    answer = client.post("/v1/score", content=FLOW, headers={**AS_JSON, "accept": kind})
    assert answer.headers["content-type"] == kind


def test_reasons_come_where_they_are_asked_for(client: TestClient):
    rows = [
        {"bytes": n, "service": name, "flags": flags, "dst_port": 10 * n}
        for n in (0, 5, 8, 44)
        for name in ("http", "dns", "ssh")
        for flags in ("SF", "S", "SAF")
    ]
    flows = json.dumps({"flows": rows}).encode()
    answer = client.post("/v1/score?explain=alerts", content=flows, headers=AS_JSON).json()
    explained = [flow["explanation"] for flow in answer["flows"] if flow["predicted_class"] != "normal"]
    assert explained
    assert all(explained)


def test_the_service_tells_what_it_is(client: TestClient):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/v1/model").json()["benign"] == "normal"
    assert client.get("/openapi.json").json()["openapi"].startswith("3.")
    assert client.get("/").headers["content-type"].startswith("text/html")


def test_what_happened_is_counted(artifact: "Artifact"):
    with client_of(artifact) as client:
        client.post("/v1/score", content=FLOW, headers=AS_JSON)
        client.post("/v1/score", content=b"", headers=AS_JSON)
        client.get("/v1/secret-path")
        text = client.get("/metrics").text
    assert 'wirebert_requests_total{path="/v1/score",status="200"} 1.0\n' in text
    assert 'wirebert_requests_total{path="/v1/score",status="400"} 1.0\n' in text
    assert 'wirebert_requests_total{path="other",status="404"} 1.0\n' in text
    assert "wirebert_flows_total 1.0\n" in text
    assert "wirebert_score_seconds_count 2.0\n" in text
    assert "secret" not in text


@pytest.mark.parametrize("path", ["/", "/front.js", "/v1/model", "/nothing", "/v1/score"])
def test_every_answer_has_the_headers_that_keep_a_browser_safe(client: TestClient, path: str):
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/v1/score", "/v1/model", "/metrics"])
@pytest.mark.parametrize(
    "given", [None, "Bearer", f"Bearer {KEY}x", f"Basic {KEY}", f"Bearer {OTHER[:-1]}", "Bearer é"]
)
def test_without_a_valid_key_nothing_is_told(artifact: "Artifact", path: str, given: str | None):
    headers = {} if given is None else {"authorization": given.encode()}
    with client_of(artifact, keys=f"{KEY} {OTHER}") as client:
        method = "POST" if path == "/v1/score" else "GET"
        answer = client.request(method, path, headers=headers, content=FLOW)  # pyright: ignore[reportArgumentType]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert set(answer.json()) == {"error", "example"}
    assert not any(name in answer.text for name in ("bytes", "service", "flags", "normal"))


def test_without_a_key_the_document_names_no_class_and_no_column(artifact: "Artifact"):
    with client_of(artifact, keys=KEY) as client:
        public = client.get("/openapi.json")
        whole = client.get("/openapi.json", headers={"authorization": f"Bearer {KEY}"})
    told = [
        name for name in (*artifact.classes.classes, *artifact.schema.names) if f'"{name}"' in public.text
    ]
    assert told == []
    assert public.json()["components"]["securitySchemes"]
    assert set(public.json()["paths"]) == {"/healthz", "/readyz"}
    assert all(f"p_{name}" in whole.text for name in artifact.classes.classes)


def test_verdicts_come_as_csv_like_those_of_a_file(client: TestClient):
    flows = b'{"flows": [{"bytes": 12, "service": "http", "src_ip": "=1+1"}, {"bytes": 0, "service": "dns"}]}'
    answer = client.post("/v1/score", content=flows, headers={**AS_JSON, "accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv"), answer.text
    expected = client.post("/v1/score", content=flows, headers=AS_JSON).json()["flows"]
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert list(rows[0]) == list(expected[0]), answer.text
    assert [row["predicted_class"] for row in rows] == [flow["predicted_class"] for flow in expected]
    assert [float(row["p_dos"]) for row in rows] == [flow["p_dos"] for flow in expected]
    assert rows[0]["src_ip"] == "'=1+1"


@pytest.mark.parametrize(
    ("status", "path", "headers", "body"),
    [
        (400, "/v1/score", AS_JSON, b"{"),
        (404, "/v1/scores", AS_JSON, FLOW),
        (405, "/v1/model", AS_JSON, FLOW),
        (406, "/v1/score", {**AS_JSON, "accept": "image/png"}, FLOW),
        (413, "/v1/score", AS_JSON, FLOW + b" " * (1 << 20)),
        (415, "/v1/score", {"content-type": "image/png"}, FLOW),
        (422, "/v1/score", AS_JSON, b'{"flows": [{"x": 1}]}'),
        (422, "/v1/score?explain=x", AS_JSON, FLOW),
    ],
)
def test_who_is_refused_is_shown_a_request_that_is_not(
    client: TestClient, status: int, path: str, headers: dict[str, str], body: bytes
):
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert "curl" in answer.json()["example"]


def test_the_api_page_is_a_page(client: TestClient):
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "POST /v1/score" in answer.text


def test_each_of_several_keys_opens(artifact: "Artifact"):
    with client_of(artifact, keys=f"{KEY} {OTHER}") as client:
        for key in (KEY, OTHER):
            answer = client.post(
                "/v1/score", content=FLOW, headers={**AS_JSON, "authorization": f"bearer {key}"}
            )
            assert answer.status_code == 200
        assert client.get("/healthz").status_code == 200


def test_a_name_that_someone_else_gave_this_machine_opens_nothing(artifact: "Artifact"):
    with client_of(artifact, hosts=frozenset({"localhost"})) as client:
        assert client.get("/v1/model", headers={"host": "localhost:80"}).status_code == 200
        for host in ("rebound.example", "localhost:x@evil", "localhost:80:80", "localhost:", "localhost:1\n"):
            assert client.get("/v1/model", headers={"host": host}).status_code == 400, host


def test_a_body_beyond_the_limit_is_refused_whether_its_length_is_told_or_not(client: TestClient):
    large = b" " * (1 << 20) + FLOW
    pieces = (large[start : start + 65536] for start in range(0, len(large), 65536))
    assert client.post("/v1/score", content=large, headers=AS_JSON).status_code == 413
    assert client.post("/v1/score", content=pieces, headers=AS_JSON).status_code == 413


def test_memory_for_bodies_is_shared_and_given_back(artifact: "Artifact"):
    limits = Limits(max_body_mb=1, max_held_bodies=2)
    with client_of(artifact, limits) as client:
        for _ in range(3):
            body = FLOW + b" " * 900_000
            assert client.post("/v1/score", content=body, headers=AS_JSON).status_code == 200
        assert "wirebert_held_bytes 0.0" in client.get("/metrics").text


def test_a_client_that_hangs_up_is_counted_apart_from_failures(artifact: "Artifact"):
    async def ask() -> str:
        limits = Limits()
        app = create_app(RequestHandler(Detector(artifact), limits), limits, ApiKeys())

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(_: MutableMapping[str, Any]) -> None:
            pass

        head = [(b"content-type", JSON.encode()), (b"content-length", b"10"), (b"host", b"x")]
        scope = {"type": "http", "method": "POST", "path": "/v1/score", "headers": head, "query_string": b""}
        async with app.service.running(app.inner):
            await app({**scope, "client": ("127.0.0.1", 1)}, receive, send)
        assert app.service.held_bytes.taken == app.service.queue_places.taken == 0
        return str(app.service.metrics.text())

    text = asyncio.run(ask())
    assert 'wirebert_requests_total{path="/v1/score",status="499"} 1.0' in text
    assert 'status="500"' not in text


def test_a_body_that_does_not_come_is_not_waited_for(artifact: "Artifact"):
    """Asked as a server asks it: the head is here, and the body is not."""

    async def ask() -> list[MutableMapping[str, Any]]:
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        limits = Limits(body_s=0.05)
        app = create_app(RequestHandler(Detector(artifact, allow_absent=True), limits), limits, ApiKeys())
        head = [(b"content-type", JSON.encode()), (b"content-length", b"10"), (b"host", b"x")]
        scope = {"type": "http", "method": "POST", "path": "/v1/score", "headers": head, "query_string": b""}
        async with app.service.running(app.inner):
            await app({**scope, "client": ("127.0.0.1", 1)}, receive, send)
        assert app.service.held_bytes.taken == 0
        return sent

    sent = asyncio.run(ask())
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_compressed_body_is_refused_unread(client: TestClient):
    bomb = gzip.compress(b" " * 10_000_000)
    answer = client.post("/v1/score", content=bomb, headers={**AS_JSON, "content-encoding": "gzip"})
    assert answer.status_code == 415


def test_who_waits_too_long_is_told_to_come_again(artifact: "Artifact", monkeypatch: pytest.MonkeyPatch):
    def sleep(*_: object) -> None:
        time.sleep(0.5)

    own = RequestHandler(Detector(artifact, allow_absent=True), LIMITS)
    monkeypatch.setattr(RequestHandler, "handle", sleep)
    limits = Limits(answer_s=0.05)
    with TestClient(create_app(own, limits, ApiKeys())) as client:
        answer = client.post("/v1/score", content=FLOW, headers=AS_JSON)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_our_own_failure_tells_no_detail(artifact: "Artifact", monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(RequestHandler, "handle", fail)
    with client_of(artifact) as client:
        answer = client.post("/v1/score", content=FLOW, headers=AS_JSON)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert client.get("/healthz").status_code == 200


def test_the_log_holds_no_payload(
    artifact: "Artifact", caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(web.LOG, "propagate", True)
    with caplog.at_level(logging.DEBUG, "wirebert.service"), client_of(artifact, keys=KEY) as client:
        for body in (b'{"flows": [{"service": "hunter2"}]}', b'{"hunter2": 1}'):
            headers = {**AS_JSON, "authorization": f"Bearer {KEY}"}
            client.post("/v1/score?explain=none", content=body, headers=headers)
        client.get("/hunter2?hunter2", headers={"authorization": "Bearer hunter2"})
    told = [vars(record) for record in caplog.records if record.name == "wirebert.service"]
    assert [one["fields"]["status"] for one in told] == [200, 422, 404]
    assert "hunter2" not in str(told)
    assert KEY not in str(told)


CORPUS: dict[str, tuple[str, bytes]] = {
    "deep arrays": (JSON, b'{"flows": ' + b"[" * 500_000),
    "deep objects": (JSON, b'{"flows": [' + b'{"a":' * 150_000),
    "deep in a line": (JSON_LINES, b'{"bytes": ' + b"[" * 500_000),
    "many empty objects": (JSON, b'{"flows": [' + b"{}," * 300_000 + b"{}]}"),
    "not a number": (JSON, b'{"flows": [{"bytes": NaN}]}'),
    "minus infinity": (JSON, b'{"flows": [{"bytes": -Infinity}]}'),
    "a huge integer": (JSON, b'{"flows": [{"bytes": ' + b"9" * 1_000_000 + b"}]}"),
    "a huge exponent": (JSON, b'{"flows": [{"bytes": 1e99999999999}]}'),
    "a long fraction": (JSON, b'{"flows": [{"bytes": 0.' + b"1" * 1_000_000 + b"}]}"),
    "64 bits and one": (JSON, b'{"flows": [{"bytes": 18446744073709551616, "dst_port": -1}]}'),
    "a number as text": (JSON, b'{"flows": [{"bytes": "' + b"9" * 4000 + b'"}]}'),
    "wrong types": (JSON, b'{"flows": [{"bytes": true, "service": 1.5, "flags": false, "src_ip": 7}]}'),
    "a lone surrogate": (JSON, b'{"flows": [{"service": "\\udfff"}]}'),
    "null bytes": (JSON, b'{"flows": [{"service": "\\u0000", "src_ip": "\\u0000"}]}'),
    "no utf-8": (JSON, b'{"flows": [{"service": "\xc3\x28"}]}'),
    "utf-16": (JSON, '{"flows": []}'.encode("utf-16")),
    "a mark before": (JSON, b"\xef\xbb\xbf" + FLOW),
    "a key twice": (JSON, b'{"flows": [{"bytes": 1, "bytes": "x"}], "flows": [{"bytes": 2}]}'),
    "prototype": (JSON, b'{"flows": [{"bytes": 1, "__proto__": 1, "constructor": "x", "__class__": null}]}'),
    "an address that is none": (JSON, b'{"flows": [{"src_ip": "999.1.2.3/-1", "dst_port": 70000}]}'),
    "directions of text": (JSON, '{"flows": [{"service": "\u202e\u0301\U0010ffff"}]}'.encode()),
    "half a json line": (JSON_LINES, b'{"bytes": 1}\n{"byt'),
    "only line ends": (JSON_LINES, b"\r\n" * 500_000),
    "one csv line": (CSV, b"," * 1_000_000),
    "open quotes": (CSV, b'bytes,service\n"' + b"x" * 900_000),
    "all quotes": (CSV, b'"' * 1_000_000),
    "csv without a line end": (CSV, b"bytes," + b"a" * 1_000_000),
    "wide csv": (CSV, b",".join(b"c%d" % n for n in range(50_000)) + b"\n" + b"1," * 49_999 + b"1"),
    "long csv": (CSV, b"bytes\n" + b"1\n" * 400_000),
    "one line of words": (CSV, b"a " * 500_000),
    "one line of quotes": (CSV, b'"a" ' * 200_000),
    "only line ends in csv": (CSV, b"\r" * 1_000_000),
    "a null in csv": (CSV, b"bytes,service\n1,\x00\n"),
    "formulas": (CSV, b"bytes,service\n=1+1,=cmd|' /C calc'!A0\n"),
    "a spreadsheet": (CSV, b"PK\x03\x04" + b"\0" * 5000),
    "gzip": (CSV, gzip.compress(b"bytes\n1\n")),
    "a zeek log": (CSV, b"#separator \\x09\n#path\tconn\n#fields\tts\tuid\n1\tC1\n"),
    "key-value lines": (CSV, b"service=http, bytes=3\nservice=dns, bytes=4\n"),
    "json called csv": (CSV, FLOW),
    "csv called json": (JSON, b"bytes,service\n1,http\n"),
    "a message of no length": (ARROW, b"\xff\xff\xff\xff" + b"\0" * 4),
    "a message of all lengths": (ARROW, b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * 100),
    "an arrow file": (ARROW, b"ARROW1\0\0" + b"\0" * 100),
    "nothing": (ARROW, b""),
}


@pytest.mark.parametrize("name", CORPUS)
def test_no_hostile_body_makes_the_service_fail(client: TestClient, name: str):
    kind, body = CORPUS[name]
    begin = time.perf_counter()
    answer = client.post("/v1/score", content=body, headers={"content-type": kind})
    assert answer.status_code in (200, 400, 413, 422)
    assert time.perf_counter() - begin < 5
    if answer.status_code != 200:
        assert len(answer.json()["error"]) < 1000
    assert client.post("/v1/score", content=FLOW, headers=AS_JSON).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/front.js/../../../pyproject.toml",
        "//etc/passwd",
        "/front.js%00.html",
        "/static/front.js",
        "/v1/score/",
        "/v1//score",
        "/V1/MODEL",
        "/%ff%fe",
    ],
)
def test_a_path_leads_to_what_is_listed_or_nowhere(client: TestClient, path: str):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "GET"])
def test_another_method_is_refused(client: TestClient, method: str):
    assert client.request(method, "/v1/score").status_code == 405


CELL = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
NAMES = st.sampled_from(["ts", "uid", "src_ip", "dst_port", "duration", "bytes", "service", "flags", "x"])


@given(flows=st.lists(st.dictionaries(NAMES, CELL, max_size=6), max_size=6))
def test_any_rows_are_scored_or_refused(client: TestClient, flows: list[dict[str, Any]]):
    try:
        body = json.dumps({"flows": flows}).encode("utf-8")
    except UnicodeEncodeError:
        return
    answer = client.post("/v1/score", content=body, headers=AS_JSON)
    assert answer.status_code in (200, 400, 422)
    if answer.status_code == 200:
        assert len(answer.json()["flows"]) == len(flows)


@given(body=st.binary(max_size=300), kind=st.sampled_from([JSON, JSON_LINES, CSV, ARROW]))
def test_any_bytes_are_scored_or_refused(client: TestClient, body: bytes, kind: str):
    answer = client.post("/v1/score", content=body, headers={"content-type": kind})
    assert answer.status_code in (200, 400, 413, 415, 422)


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_an_arrow_table_of_many_columns_is_refused_in_time(client: TestClient, size: int):
    sink = pa.BufferOutputStream()
    table = pa.table({f"c{number}": [1] for number in range(size // 20)})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    answer = client.post("/v1/score", content=sink.getvalue().to_pybytes(), headers={"content-type": ARROW})
    assert answer.status_code in (413, 422)


def test_drift_of_what_was_scored_is_among_the_metrics(artifact: "Artifact", table: pa.Table):
    reference = fit_reference(Detector(artifact), [table] * 10)
    handler = RequestHandler(Detector(replace(artifact, reference=reference), allow_absent=True), LIMITS)
    handler.detector.watch_drift()
    flows = json.dumps({"flows": json.loads(FLOW)["flows"] * 60}).encode()
    with TestClient(create_app(handler, LIMITS, ApiKeys(text=""))) as client:
        assert "wirebert_drift_flows 0.0" in client.get("/metrics").text
        assert client.post("/v1/score", content=flows, headers=AS_JSON).status_code == 200
        text = client.get("/metrics").text
    assert "wirebert_drift_flows 50.0" in text
    assert 'wirebert_drift_distance{of="bytes"}' in text
