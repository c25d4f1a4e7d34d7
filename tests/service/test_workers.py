"""Several processes of one service: what they share, and what happens when one of them dies."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from wirebert.cli.main import main
from wirebert.errors import ConfigError
from wirebert.inference.artifact import save_artifact
from wirebert.service.limits import Limits
from wirebert.service.workers import shared_out

if TYPE_CHECKING:
    import subprocess

    from wirebert.inference.artifact import Artifact

Start = Callable[..., tuple["subprocess.Popen[bytes]", int]]
BODY = json.dumps({"flows": [{"bytes": 3, "service": "http", "duration": 0.5}]}).encode()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content


def workers_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.parametrize("num_workers", [2, 3, 4])
def test_limits_of_the_processes_add_up_to_those_of_the_service(num_workers: int):
    limits = Limits()
    one = shared_out(limits, num_workers)
    for name in ("max_queue", "max_held_bodies", "max_connections"):
        assert getattr(limits, name) - num_workers < num_workers * getattr(one, name) <= getattr(limits, name)


@pytest.mark.parametrize("num_workers", [0, -1, 5])
def test_a_number_of_processes_without_limits_to_share_is_refused(num_workers: int):
    with pytest.raises(ConfigError, match=r"--workers must be in \[1, 4\]"):
        shared_out(Limits(), num_workers)


@pytest.mark.slow
def test_two_processes_answer_as_one_and_another_starts_for_one_that_dies(
    start_service: Start, tmp_path: Path
):
    process, port = start_service("--workers", "2")
    workers = workers_of(process)
    assert len(workers) == 2
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, port, "POST", "/v1/score", BODY) for _ in range(40)]
        answers = [one.result() for one in asked]
    assert {status for status, _ in answers} == {200}
    assert len({text for _, text in answers}) == 1
    _, metrics = ask(port, "GET", "/metrics")
    assert 'wirebert_requests_total{path="/v1/score",status="200"} 40.0' in metrics
    assert "wirebert_flows_total 40.0" in metrics

    os.kill(workers[0].pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 120
    while len(alive := workers_of(process)) < 2 or workers[0] in alive:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert '"a worker died"' in (tmp_path / "log").read_text()
    time.sleep(0.5)
    _, metrics = ask(port, "GET", "/metrics")
    assert "wirebert_flows_total 40.0" in metrics  # also what the dead one had counted

    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not any(worker.is_running() for worker in alive)


def test_a_model_that_can_not_be_loaded_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["serve", str(tmp_path / "none"), "--port", "0", "--workers", "2"]) == 2
    assert capfd.readouterr().err.count("wirebert: ") == 1


@pytest.mark.slow
def test_a_process_that_can_not_start_ends_the_service_and_says_why_once(
    artifact: "Artifact", tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    save_artifact(artifact, tmp_path / "model", card="")
    command = ["serve", str(tmp_path / "model"), "--port", "0", "--workers", "2", "--backend", "onnx-int8"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert capfd.readouterr().err.count("wirebert: ") == 1
