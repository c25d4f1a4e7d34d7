"""The whole chain: a Zeek log, a monitor that is killed, ECS lines in a file, and RFC 5424 to a receiver.

One receiver is a socket that reads octet-counted messages, the other is rsyslogd where it is installed.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.inference.artifact import save_artifact

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert

pytestmark = pytest.mark.soak
HEADER = re.compile(
    rb"<(\d{1,3})>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ wirebert \S+ alert - \xef\xbb\xbf"
)


class Receiver:
    """Takes octet-counted messages; the connection ends when `hang_up` is called."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.2)
        self.port, self.events, self._is_over, self._hang_up = (
            self._server.getsockname()[1],
            list[dict[str, object]](),
            False,
            False,
        )
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def hang_up(self) -> None:
        self._hang_up = True

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while not self._is_over:
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(0.2)
                self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        held, self._hang_up = b"", False
        while not self._is_over and not self._hang_up:
            try:
                chunk = connection.recv(1 << 16)
            except TimeoutError:
                continue
            if not chunk:
                return
            held += chunk
            while (found := re.match(rb"(\d+) ", held)) and len(held) >= found.end() + int(found[1]):
                message = held[found.end() : found.end() + int(found[1])]
                held = held[found.end() + int(found[1]) :]
                header = HEADER.match(message)
                assert header is not None, message[:120]
                self.events.append(json.loads(message[header.end() :]))


@pytest.fixture
def saved(make_artifact: "Callable[..., tuple[Artifact, DistilBert]]", tmp_path: Path) -> list[bytes]:
    """The lines of a Zeek log of 2,000 flows; a model for it is in `tmp_path / "model"`."""
    whole = tmp_path / "whole.log"
    write_conn_log(whole, generate(2_000, seed=3, stealthy=True))
    flows = open_flows(whole)
    artifact, _ = make_artifact(flows.schema, pa.concat_tables(flows.blocks()))
    save_artifact(artifact, tmp_path / "model", card="")
    return whole.read_bytes().splitlines(keepends=True)


RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="64k")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="text" type="string" string="%app-name% %msgid% %syslogseverity-text% %msg%\\n")
action(type="omfile" file="{folder}/events" template="text")
"""


def test_rsyslogd_that_is_restarted_has_every_event(saved: list[bytes], tmp_path: Path):
    if shutil.which("rsyslogd") is None:
        pytest.skip("needs rsyslogd (Debian package rsyslog); `make soak` installs it as root")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "rsyslog.conf").write_text(RSYSLOG.format(folder=tmp_path, port=port))
    receiver = [*("rsyslogd", "-n", "-f", str(tmp_path / "rsyslog.conf")), "-i", str(tmp_path / "pid")]
    log, target = tmp_path / "conn.log", f"syslog+tcp://127.0.0.1:{port},format=ecs,write=flows"
    log.write_bytes(b"".join(saved[:107]))
    words = ["monitor", str(tmp_path / "model"), str(log), "--to", target, "--state", str(tmp_path / "state")]
    uids = {line.split(b"\t")[1].decode() for line in saved[7:]}
    with subprocess.Popen([sys.executable, "-m", "wirebert", *words]) as monitor:
        for number in range(3):
            with subprocess.Popen(receiver) as rsyslogd:
                time.sleep(4)
                with log.open("ab") as file:
                    file.write(b"".join(saved[107 + 650 * number : 107 + 650 * (number + 1)]))
                deadline = time.monotonic() + (0.3 if number < 2 else 120)
                while time.monotonic() < deadline and len(taken(tmp_path / "events")) < len(uids):
                    time.sleep(0.1)
                if number == 2:
                    monitor.send_signal(signal.SIGTERM)
                    assert monitor.wait(60) == 0
                rsyslogd.terminate()
    found = taken(tmp_path / "events")
    assert found.keys() == uids
    assert all(len(ids) == 1 for ids in found.values())


def taken(path: Path) -> dict[str, set[str]]:
    """Identifier of a flow -> the ids of its events in the file of rsyslogd."""
    found: dict[str, set[str]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        app, message_id, severity, text = line.split(" ", 3)
        assert (app, message_id, severity) == ("wirebert", "alert", "warning")
        event = json.loads(text[text.index("{") :])
        found.setdefault(event_uid(event), set()).add(event["event"]["id"])
    return found


def test_zeek_lines_become_ecs_events_in_a_file_once_and_at_a_syslog_receiver_at_least_once(
    saved: list[bytes], tmp_path: Path
):
    lines = saved
    uids = {line.split(b"\t")[1].decode() for line in lines[7:]}
    log, receiver = tmp_path / "conn.log", Receiver()
    log.write_bytes(b"".join(lines[:107]))
    command = [
        *(sys.executable, "-m", "wirebert", "monitor", str(tmp_path / "model"), str(log)),
        *("--to", str(tmp_path / "ecs.jsonl") + ",format=ecs,write=flows"),
        *("--to", f"syslog+tcp://127.0.0.1:{receiver.port},write=flows"),
        *("--state", str(tmp_path / "state")),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (tmp_path / "state" / "monitor.state").exists():  # what is rotated before is not followed
        assert process.poll() is None
        time.sleep(0.1)
    for number in range(4):
        part = lines[107 + 475 * number : 107 + 475 * (number + 1)]
        with log.open("ab") as file:
            file.write(b"".join(part))
        time.sleep(6)
        receiver.hang_up()
        if number < 3:
            process.kill()
            process.wait()
            if number == 1:
                log.rename(tmp_path / "conn.log.1")
                log.write_bytes(b"".join(lines[:7]))
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len({event_uid(event) for event in receiver.events}) < len(uids):
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    receiver.close()
    in_file = [json.loads(line) for line in (tmp_path / "ecs.jsonl").read_text().splitlines()]
    assert sorted(event_uid(event) for event in in_file) == sorted(uids)
    assert {event_uid(event) for event in receiver.events} == uids
    ids = {event_uid(event): event["event"]["id"] for event in in_file}
    assert all(event["event"]["id"] == ids[event_uid(event)] for event in receiver.events)  # pyright: ignore[reportIndexIssue]


def event_uid(event: dict[str, object]) -> str:
    """The identifier that Zeek gave the flow, wherever ECS has it."""
    found = re.search(r'"(C[0-9A-Za-z]{9,17})"', json.dumps(event))
    assert found is not None
    return found[1]
