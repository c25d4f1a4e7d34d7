"""The service in a process of its own: what it refuses to begin, and how it ends."""

import http.client
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wirebert.errors import ConfigError
from wirebert.inference.detector import Detector
from wirebert.service.api_keys import VARIABLE
from wirebert.service.limits import Limits
from wirebert.service.server import ServerConfig, serve

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact


Start = Callable[..., tuple["subprocess.Popen[bytes]", int]]
AS_JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.invalid", ""])
def test_strangers_need_a_key_or_a_word(artifact: "Artifact", host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="can be reached by others, and no key is set"):
        serve(Detector(artifact), ServerConfig(host=host), Limits())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_none(host: str):
    assert ServerConfig(host=host).is_loopback


def test_an_address_that_is_taken_is_told_in_one_sentence(artifact: "Artifact"):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: cannot listen there"):
            serve(Detector(artifact), ServerConfig(port=port), Limits())


def test_a_port_is_a_port():
    with pytest.raises(ConfigError, match="--port"):
        ServerConfig(port=70000)


def ask(port: int, body: bytes) -> tuple[int, dict[str, list[object]]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/score", body, AS_JSON)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content)


def flows(num_rows: int) -> bytes:
    rows = [{"bytes": number, "service": "http", "duration": number / 7} for number in range(num_rows)]
    return json.dumps({"flows": rows}).encode()


@pytest.mark.soak
def test_a_service_that_is_stopped_finishes_what_it_took_refuses_more_and_ends_well(
    start_service: Start, tmp_path: Path
):
    process, port = start_service("--max-rows", "20000")
    idle = http.client.HTTPConnection("127.0.0.1", port)
    idle.connect()
    # Part of a body: taken, but not here yet.
    late = socket.create_connection(("127.0.0.1", port))
    body = flows(3)
    late.sendall(
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body[:10]
    )  # fmt: skip
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, port, flows(10_000)) for _ in range(6)]
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        late.sendall(body[10:])
        answers = [one.result() for one in asked]
    assert b"200 OK" in late.recv(100)
    assert [(status, len(answer["flows"])) for status, answer in answers] == [(200, 10_000)] * 6
    late.close()
    idle.close()
    assert process.wait(30) == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert events[0] == "listening"
    assert events[-1] == "stopped"
    assert set(events) <= {"listening", "request", "stopped"}


@pytest.mark.slow
def test_a_hangup_ends_nothing_and_a_new_key_counts_without_one(start_service: Start, tmp_path: Path):
    (tmp_path / "keys").write_text("old-key-of-20-letters\n")
    process, port = start_service("--keys", str(tmp_path / "keys"))
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
    assert ask(port, flows(3))[0] == 401
    (tmp_path / "keys").write_text("new-key-of-20-letters\n")
    headers = {**AS_JSON, "authorization": "Bearer new-key-of-20-letters"}
    deadline, status = time.monotonic() + 20, 0
    while status != 200 and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/v1/score", flows(3), headers)
        status = connection.getresponse().status
        connection.close()
        time.sleep(0.1)
    assert status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.slow
def test_too_many_requests_are_told_to_come_again_and_then_it_goes_on(start_service: Start):
    process, port = start_service("--max-queue", "2")
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, [port] * 48, [flows(4000)] * 48))
    statuses = {status for status, _ in answers}
    assert statuses == {200, 503}
    assert ask(port, flows(3))[0] == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: +3\r\n\r\nabc",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\n"
        b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_head_that_is_no_sound_head_gets_400_and_the_end(service_port: int, head: bytes):
    with socket.create_connection(("127.0.0.1", service_port), timeout=10) as connection:
        connection.sendall(head)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 431"))
    assert received.count(b"HTTP/1.1 ") == 1
