"""Each target gets the events that it asked for, in its format."""

import json
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pytest

from wirebert.alerts.ecs import EcsContext
from wirebert.alerts.incident_records import IncidentSettings
from wirebert.alerts.incidents import IncidentTracker
from wirebert.alerts.outputs import Batch, Outputs, Target
from wirebert.errors import ConfigError

RECORDS = pa.table(
    {
        "row": [0, 1, 2],
        "ts": ["1000.0", "1001.0", "1002.0"],
        "src_ip": ["10.0.0.1"] * 3,
        "dst_ip": ["10.0.0.2"] * 3,
        "predicted_class": ["benign", "scan", "scan"],
        "p_benign": [0.9, 0.1, 0.2],
        "p_scan": [0.1, 0.9, 0.8],
        "attack_score": [0.1, 0.9, 0.8],
        "verdict": ["pass", "alert", "alert"],
        "threshold": [0.5] * 3,
        "community_id": pa.array([None] * 3, pa.string()),
        "num_absent": [0] * 3,
        "num_unseen": [0] * 3,
        "warnings": pa.array([[]] * 3, pa.list_(pa.string())),
        "schema_version": [2] * 3,
        "event_id": ["a-0", "a-1", "a-2"],
    }
)
CONTEXT = EcsContext(model_sha256="f" * 64, benign="benign")


def batch() -> Batch:
    """The second alert is hidden by a suppression."""
    tracker = IncidentTracker(IncidentSettings(), benign="benign")
    shown = np.array([True, True, False])
    return Batch(
        records=RECORDS,
        is_alert=np.array([False, True, False]),
        incidents=tracker.add(RECORDS.filter(pa.array(shown))),
    )


def opened(*targets: str) -> tuple[Outputs, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    parsed = [Target.parse(target) for target in targets]
    return Outputs(parsed, {}, None, 1, Event(), lambda code, text: told.append((code, text))), told


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_target_is_a_place_a_format_and_what_is_written():
    brokers = Target.parse("kafka://a:1,b:2/t?x=1,write=alerts")
    assert (brokers.place, brokers.format, brokers.contents) == ("kafka://a:1,b:2/t?x=1", "ecs", {"alerts"})
    assert Target.parse("-").contents == {"flows"}
    assert Target.parse("x,format=ecs").contents == {"alerts", "incidents", "health"}


@pytest.mark.parametrize(
    ("text", "told"), [("x,format=csv", "format="), ("x,write=all", "write="), ("http://x", "log shippers")]
)
def test_other_targets_are_refused(text: str, told: str):
    with pytest.raises(ConfigError, match=told):
        Target.parse(text)


def test_each_target_gets_what_it_asked_for(tmp_path: Path):
    names = ("flows", "alerts", "incidents", "health", "alerts+incidents+health")
    outputs, _ = opened(
        *(f"{tmp_path / name},write={name}" for name in names), f"{tmp_path / 'ecs'},format=ecs"
    )
    outputs.write(batch(), CONTEXT)
    outputs.write_health("heartbeat", {"flows": 3})
    outputs.close()
    found = {name: lines(tmp_path / name) for name in (*names, "ecs")}
    assert [row["row"] for row in found["flows"]] == [0, 1, 2]
    assert [row["event_id"] for row in found["alerts"]] == ["a-1"]
    assert [row["event"] for row in found["incidents"]] == ["incident_opened"]
    assert [(row["event"], row["flows"]) for row in found["health"]] == [("heartbeat", 3)]
    assert found["alerts+incidents+health"][:2] == found["alerts"] + found["incidents"]
    kinds = [row["event"]["kind"] for row in found["ecs"]]  # pyright: ignore[reportIndexIssue]
    assert kinds == ["alert", "alert", "metric"]
    assert found["ecs"][0]["event"]["id"] == "a-1"  # pyright: ignore[reportIndexIssue]


def test_a_full_disk_is_waited_for_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    outputs, told = opened(f"{tmp_path / 'out'}")
    monkeypatch.setattr("wirebert.alerts.outputs._RETRY_S", 0.01)
    file, tries = outputs.files[str(tmp_path / "out")], list[int]()
    write = file.write

    def fails_twice(events: list[bytes]) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(28, "No space left on device")
        write(events)

    monkeypatch.setattr(file, "write", fails_twice)
    outputs.write(batch(), CONTEXT)
    outputs.close()
    assert len(lines(tmp_path / "out")) == 3
    assert [code for code, _ in told] == ["sink_down", "sink_up"]


@pytest.mark.parametrize(
    "place", ["syslog+udp://", "syslog+tcp://h:0", "syslog+tcp://h:x", "syslog+udp://h?a=1"]
)
def test_an_address_of_syslog_that_is_none_is_refused(place: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        Outputs([Target.parse(place)], {}, tmp_path, 1, Event(), lambda _code, _text: None)
