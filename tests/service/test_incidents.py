"""Incidents of a growing file as they are now, and the marks of people."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from wirebert.errors import ConfigError
from wirebert.service import incidents as module
from wirebert.service.incidents import Incidents, MarkRequest


def event(name: str, kind: str = "opened", severity: int = 47, num_flows: int = 1) -> dict[str, object]:
    return {
        "event": f"incident_{kind}", "number": 1, "reason": "", "incident_id": name, "source": "10.0.0.1",
        "class_name": "scan", "severity": severity, "first_s": 1.0, "last_s": 2.0, "num_flows": num_flows,
        "num_destinations": 1, "num_ports": 1, "joint_score": 0.9, "evidence": ["dst_port:22 (+1.0)"],
        "examples": [{"uid": f"C{name}", "community_id": "1:x"}, {"uid": f"D{name}", "community_id": "1:y"}],
    }  # fmt: skip


def append(path: Path, events: Sequence[dict[str, object]]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in events)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "incidents.jsonl"


def names(incidents: Incidents) -> list[tuple[str, str]]:
    return [(one["incident_id"], one["state"]) for one in incidents.latest()]


def test_the_latest_event_of_each_incident_counts_however_the_file_grows(path: Path):
    incidents = Incidents(path)
    assert names(incidents) == []
    append(path, [event("a"), {"event": "heartbeat"}, event("b", severity=99)])
    with path.open("a") as file:
        file.write('{"event": "incident_op')
    assert names(incidents) == [("b", "open"), ("a", "open")]
    with path.open("a") as file:
        file.write("no json\n")
    append(path, [event("a", "updated", num_flows=5), event("a", "closed", num_flows=6)])
    assert names(incidents) == [("b", "open"), ("a", "closed")]
    path.rename(path.with_suffix(".1"))
    append(path, [event("c")])
    assert {name for name, _ in names(incidents)} == {"a", "b", "c"}
    incidents.close()


def test_only_the_latest_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    append(path, [event("a"), event("b"), event("a", "updated"), event("c")])
    incidents = Incidents(path)
    assert {name for name, _ in names(incidents)} == {"a", "c"}
    incidents.close()


def test_a_mark_is_a_line_for_each_example_flow_and_is_known_after_a_restart(path: Path):
    append(path, [event("a")])
    incidents = Incidents(path)
    assert not incidents.mark(MarkRequest(incident_id="other", mark="bad"), "me")
    assert incidents.mark(MarkRequest(incident_id="a", mark="bad", class_name="scan"), "me")
    incidents.close()
    lines = [
        json.loads(line) for line in (path.parent / "incidents.jsonl.feedback.jsonl").read_text().splitlines()
    ]
    assert [line["flow"]["uid"] for line in lines] == ["Ca", "Da"]
    assert {(line["mark"], line["class"], line["by"], line["incident_id"]) for line in lines} == {
        ("bad", "scan", "me", "a")
    }
    again = Incidents(path)
    assert [one["mark"] for one in again.latest()] == ["bad"]
    again.close()


def test_the_feedback_has_one_writer_and_is_not_written_through_a_link(path: Path):
    incidents = Incidents(path)
    with pytest.raises(ConfigError, match="another service writes it"):
        Incidents(path)
    incidents.close()
    (path.parent / "mine").touch()
    (path.parent / "link").symlink_to(path.parent / "mine")
    with pytest.raises(ConfigError, match="cannot be written"):
        Incidents(path, path.parent / "link")
