"""Flows from a topic: each is scored at least once, and has the same id however often it is."""

import csv
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from tests.alerts.broker import running_broker

from wirebert.alerts.kafka import KafkaPlace, KafkaSink
from wirebert.alerts.outputs import Target
from wirebert.data.flows import open_flows
from wirebert.data.synthetic import write_csv
from wirebert.inference.detector import Detector
from wirebert.workflows.monitor import MonitorSettings, Requests, monitor

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with running_broker() as address:
        yield address


class Patient(Event):
    """Is set when nothing came for some looks after something had come, or after half a minute."""

    def __init__(self, is_done: Callable[[], bool]) -> None:
        super().__init__()
        self._is_done, self._until = is_done, time.monotonic() + 30

    def wait(self, timeout: float | None = None) -> bool:
        time.sleep(0.05)
        if self._is_done() or time.monotonic() > self._until:
            self.set()
        return self.is_set()


def test_a_topic_is_scored_with_stable_ids_and_events_go_to_another_one(
    broker: str, make_artifact: "Callable[..., tuple[Artifact, DistilBert]]", tmp_path: Path
):
    write_csv(tmp_path / "flows.csv", 200, seed=5)
    flows = open_flows(tmp_path / "flows.csv")
    table = pa.concat_tables(flows.blocks())
    detector = Detector(make_artifact(flows.schema, table)[0])
    with (tmp_path / "flows.csv").open(newline="") as file:
        messages = [json.dumps(row).encode() for row in csv.DictReader(file)]
    source = KafkaSink(KafkaPlace.parse(f"kafka://{broker}/flows"))
    source.write(messages[:120])

    def run(name: str, num_flows: int) -> list[dict[str, object]]:
        out = tmp_path / f"{name}.jsonl"
        targets = (
            Target.parse(str(out)),
            Target.parse(f"kafka://{broker}/alerts,format=verdicts,write=flows"),
        )
        settings = MonitorSettings(targets=targets, state=tmp_path / name)
        done = lambda: out.read_bytes().count(b"\n") >= num_flows  # noqa: E731
        places = [f"kafka://{broker}/flows?group=g&session.timeout.ms=6000"]
        monitor(lambda: detector, places, settings, Requests(stop=Patient(done)), [].extend)
        return [json.loads(line) for line in out.read_text().splitlines()]

    first = run("first", 120)
    assert len({row["event_id"] for row in first}) == 120
    source.write(messages[120:])
    assert len(run("first", 200)) == 200  # goes on where it stopped
    assert run("elsewhere", 0) == []  # the group has committed all of it
    again = read_all(broker, "alerts", 200)
    assert {row["event_id"] for row in again} == {row["event_id"] for row in run("first", 200)}


def read_all(broker: str, topic: str, num_messages: int) -> list[dict[str, object]]:
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": broker, "group.id": "r", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: list[dict[str, object]] = []
    until = time.monotonic() + 30
    while len(found) < num_messages and time.monotonic() < until:
        for message in consumer.consume(500, 0.5):
            assert message.error() is None
            row = json.loads(message.value() or b"")
            assert (message.key() or b"").decode() == row["event_id"]
            found.append(row)
    consumer.close()
    return found
