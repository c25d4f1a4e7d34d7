"""The same verdicts everywhere: each sensor log by predict, monitor, serve, evaluate and Detector.

    python benchmarks/same_verdicts.py DATA   # DATA: the folder that holds sensors/

A mini model is trained on the labelled Zeek log, and scores every log in each way. A cell holds the number of
flows, the largest difference of the attack score from `predict`, and the number of alerts. In pieces, the flows
of a piece lack the context of earlier ones: the number in brackets is that of `flows_without_history`.
"""

import argparse
import gzip
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from wirebert.alerts.outputs import Target
from wirebert.cli.main import main as wirebert
from wirebert.data.flows import DataConfig, FlowSubset, open_flows
from wirebert.errors import UserError
from wirebert.evaluation.evaluate import evaluate_detector
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import predict_blocks
from wirebert.inference.verdicts import verdict_table
from wirebert.service.bodies import JSON, TEXT
from wirebert.service.handlers import RequestHandler, ScoreRequest, ScoreResponse
from wirebert.service.limits import Limits
from wirebert.workflows.monitor import MonitorSettings, Requests, monitor

LOGS = (
    *("zeek-tsv/conn.log", "zeek-json/conn.log", "zeek-labeled/conn.log.labeled"),
    *("zeek-scans/horizontal.conn.log", "zeek-scans/vertical.conn.log", "suricata/eve.json.gz"),
    *("netflow/nfdump.csv.gz", "argus/comma.binetflow.gz", "argus/tab.binetflow"),
)
WAYS = ("predict", "monitor", "serve", "serve by 100", "evaluate", "Detector")
PIECE = 100
Rows = Sequence[Mapping[str, Any]]


class OnceIdle(Event):
    """Stops the following when there is nothing more to read."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 -- the base class has it
        """Stop."""
        self.set()
        return True


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    sensors = parser.parse_args().data / "sensors"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = ["train", str(sensors / "zeek-labeled" / "conn.log.labeled"), "--out", str(folder / "run")]
        settings = ("model.size=mini", "training.epochs=3", "evaluation.baseline=false")
        if wirebert([*train, *(word for setting in settings for word in ("--set", setting))]):
            sys.exit(1)
        detector = Detector.load(folder / "run" / "model", allow_absent=True)
        print("| log | " + " | ".join(WAYS) + " |\n|---|" + "---|" * len(WAYS))
        for log in LOGS:
            content = (sensors / log).read_bytes()
            path = folder / "flows.log"  # by itself, as a service sees it
            path.write_bytes(gzip.decompress(content) if log.endswith(".gz") else content)
            print(f"| {log} | " + " | ".join(cells(detector, path, folder)) + " |", flush=True)


def cells(detector: Detector, path: Path, folder: Path) -> list[str]:
    """The cells of one log."""
    flows = open_flows(path, DataConfig(allow_absent=True), schema=detector.schema)
    expected = [row for table in predict_blocks(detector, flows) for row in table.to_pylist()]
    body = path.read_bytes()
    table = pa.concat_tables(flows.blocks())
    whole = verdict_table(table, detector.score(table), detector.schema, np.arange(table.num_rows))
    return [
        cell(expected, expected),
        followed(detector, path, folder / "followed.jsonl", expected),
        served(detector, [body], expected),
        served(detector, pieces(body), expected),
        evaluated(detector, path, folder / "evaluated.parquet", expected),
        cell(whole.to_pylist(), expected),
    ]


def cell(found: Rows, expected: Rows, note: str = "") -> str:
    """Flows, largest difference, alerts."""
    alerts = sum(row.get("verdict") == "alert" for row in found)
    if len(found) != len(expected):
        return f"{len(found):,} flows{note}"
    gaps = [
        abs(one["attack_score"] - other["attack_score"]) for one, other in zip(found, expected, strict=True)
    ]
    return f"{len(found):,}; {max(gaps, default=0.0):.1g}; {alerts:,}{note}"


def followed(detector: Detector, path: Path, out: Path, expected: Rows) -> str:
    """Verdicts of `monitor`."""
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as state:
        settings = MonitorSettings(targets=(Target.parse(str(out)),), state=Path(state))
        requests = Requests(stop=OnceIdle())
    try:
        monitor(lambda: detector, [str(path)], settings, requests, lambda _: None)
    except UserError:
        return "no lines to follow"
    return cell([json.loads(line) for line in out.read_text().splitlines()], expected)


def served(detector: Detector, bodies: Sequence[bytes], expected: Rows) -> str:
    """Verdicts of the service."""
    handler = RequestHandler(detector, Limits(max_body_mb=1024, max_rows=1_000_000))
    found: list[Mapping[str, Any]] = []
    num_without_history = num_refused = 0
    for body in bodies:
        (answer,) = handler.handle([ScoreRequest(content_type=TEXT, body=body, answer_type=JSON)])
        if isinstance(answer, ScoreResponse):
            found += json.loads(answer.content)["flows"]
            num_without_history += answer.num_without_history
        else:
            num_refused += 1
    refused = f", {num_refused:,} pieces without a flow refused" if num_refused else ""
    return cell(found, expected, f" ({num_without_history:,}{refused})")


def pieces(body: bytes) -> list[bytes]:
    """The log cut after every `PIECE` lines, each piece under the head of the log."""
    lines = body.splitlines(keepends=True)
    num_head = next(at for at, line in enumerate(lines) if line[:1].isdigit() or line[:1] == b"{")
    head, rows = b"".join(lines[:num_head]), [line for line in lines[num_head:] if line[:1] != b"#"]
    return [head + b"".join(rows[at : at + PIECE]) for at in range(0, len(rows), PIECE)]


def evaluated(detector: Detector, path: Path, out: Path, expected: Rows) -> str:
    """Verdicts of `evaluate`."""
    try:
        flows = open_flows(path, DataConfig(allow_absent=True), schema=detector.schema)
        evaluate_detector(detector, FlowSubset("log", flows), out, seed=1, num_resamples=1)
    except UserError:
        return "no label"
    return cell(parquet.read_table(out).to_pylist(), expected)


if __name__ == "__main__":
    main()
