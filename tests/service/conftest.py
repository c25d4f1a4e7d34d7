"""Services in processes of their own, of a detector that nobody trained."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact


@pytest.fixture
def loop_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` in a thread: the browser tests, if they came before, keep a loop running in this one."""
    run = asyncio.run

    def run_in_thread(main: Coroutine[Any, Any, Any]) -> object:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(run, main).result()

    monkeypatch.setattr(asyncio, "run", run_in_thread)


class Services:
    """`wirebert serve` in processes of their own."""

    def __init__(self, artifact: "Artifact", folder: Path) -> None:
        from wirebert.inference.artifact import save_artifact

        self.folder, self._started = folder, list[subprocess.Popen[bytes]]()
        save_artifact(artifact, folder / "model", card="")

    def start(self, *options: str) -> "tuple[subprocess.Popen[bytes], int]":
        """One with these options, once it listens, and its port; its log is `folder / "log"`."""
        command = [sys.executable, "-m", "wirebert", "serve", str(self.folder / "model"), "--port", "0"]
        log = self.folder / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen([*command, *options], stderr=sink)
        self._started.append(process)
        for _ in range(600):
            text = log.read_text()
            if text.endswith("\n") and (entry := json.loads(text.splitlines()[0]))["event"] == "listening":
                return process, int(entry["port"])
            assert process.poll() is None, text
            time.sleep(0.1)
        raise AssertionError("the service does not start")

    def stop(self) -> None:
        """End those that still run."""
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def start_service(
    artifact: "Artifact", tmp_path: Path
) -> "Iterator[Callable[..., tuple[subprocess.Popen[bytes], int]]]":
    """Starts a service of its own for a test; its log is `tmp_path / "log"`."""
    services = Services(artifact, tmp_path)
    yield services.start
    services.stop()


@pytest.fixture(scope="session")
def service_port(artifact: "Artifact", tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a service that several tests share."""
    services = Services(artifact, tmp_path_factory.mktemp("service"))
    yield services.start()[1]
    services.stop()
