"""Every event is checked against the names and types that Elastic publishes (`ecs_fields.json`)."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import resources
from ipaddress import ip_address
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirebert.alerts.ecs import ECS_VERSION, EcsContext, carried_columns, ecs_events, ecs_incidents
from wirebert.alerts.incidents import Incident, IncidentEvent

TABLE = json.loads(resources.files("wirebert.alerts").joinpath("ecs_fields.json").read_text("utf-8"))
FIELDS: dict[str, dict[str, Any]] = TABLE["fields"]
OWN = "wirebert."
CONTEXT = EcsContext(model_sha256="ab" * 32, benign="normal", version="0.1.0")


def is_date(value: object) -> bool:
    return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None


def is_ip(value: object) -> bool:
    return isinstance(value, str) and bool(ip_address(value))


CHECKS: dict[str, Callable[[Any], bool]] = {
    "keyword": lambda value: isinstance(value, str) and value != "",
    "match_only_text": lambda value: isinstance(value, str),
    "date": is_date,
    "ip": is_ip,
    "long": lambda value: type(value) is int and abs(value) < 2**63,
    "float": lambda value: type(value) in (int, float),
}


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        assert value, f"{path} is an empty object"
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value


def check(line: bytes) -> dict[str, Any]:
    """The event, after each of its fields was checked."""
    assert b"\n" not in line
    event = json.loads(line)
    for path, value in leaves(event):
        if path.startswith(OWN):
            continue
        assert path in FIELDS, f"{path} is no field of ECS {ECS_VERSION}"
        known = FIELDS[path]
        assert isinstance(value, list) == known.get("array", False), path
        for one in value if isinstance(value, list) else [value]:
            assert CHECKS[known["type"]](one), (path, one)
            assert one in known.get("allowed", {one}), (path, one)
    expected = [FIELDS["event.category"]["allowed"][name] for name in event["event"]["category"]]
    assert all(any(kind in kinds for kinds in expected) for kind in event["event"]["type"])
    assert event["ecs"]["version"] == TABLE["ecs_version"]
    return event


def record(**values: object) -> dict[str, object]:
    usual = {
        "row": 0,
        "ts": "1772447355.837907",
        "uid": "CE3b",
        "src_ip": "10.0.0.1",
        "src_port": 51000,
        "dst_ip": "10.0.0.2",
        "dst_port": 445,
        "protocol": "tcp",
        "service": "smb;gssapi",
        "duration_s": 1.5,
        "src_ip_bytes": 100.0,
        "dst_ip_bytes": 50.0,
        "src_packets": 2.0,
        "dst_packets": None,
        "predicted_class": "probe",
        "p_normal": 0.25,
        "p_probe": 0.75,
        "attack_score": 0.75,
        "verdict": "alert",
        "threshold": 0.5,
        "community_id": "1:abc=",
        "num_absent": 0,
        "num_unseen": 1,
        "warnings": ["absent_features"],
        "schema_version": 2,
    }
    return {**usual, **values}


types: dict[str, pa.DataType] = {
    "src_port": pa.int64(),
    "dst_port": pa.int64(),
    "warnings": pa.list_(pa.string()),
}
types["explanation"] = pa.list_(pa.string())
types |= dict.fromkeys(("row", "num_absent", "num_unseen", "schema_version"), pa.int64())
types |= dict.fromkeys(
    ("duration_s", "src_ip_bytes", "dst_ip_bytes", "src_packets", "dst_packets", "novelty"), pa.float64()
)
types |= dict.fromkeys(("p_normal", "p_probe", "attack_score", "threshold"), pa.float64())


def events(*records: dict[str, object]) -> list[dict[str, Any]]:
    schema = pa.schema([(name, types.get(name, pa.string())) for name in records[0]])
    return [check(line) for line in ecs_events(pa.Table.from_pylist(list(records), schema), CONTEXT)]


def test_an_alert_says_who_what_and_why():
    (event,) = events(record())
    assert event["@timestamp"] == "2026-03-02T10:29:15.837907Z"
    assert event["event"] | {"id": ""} == {
        "kind": "alert",
        "category": ["intrusion_detection", "network"],
        "type": ["info", "connection"],
        "module": "wirebert",
        "dataset": "wirebert.verdict",
        "id": "",
        "start": "2026-03-02T10:29:15.837907Z",
        "duration": 1_500_000_000,
        "risk_score": 75.0,
        "severity": 47,
    }
    assert event["source"] == {
        "address": "10.0.0.1",
        "ip": "10.0.0.1",
        "port": 51000,
        "bytes": 100,
        "packets": 2,
    }
    assert event["destination"] == {"address": "10.0.0.2", "ip": "10.0.0.2", "port": 445, "bytes": 50}
    assert event["network"] == {
        "community_id": "1:abc=",
        "bytes": 150,
        "packets": 2,
        "type": "ipv4",
        "transport": "tcp",
        "iana_number": "6",
        "protocol": "smb",
    }
    assert event["threat"]["technique"]["id"] == ["T1046"]
    assert event["rule"]["category"] == "probe"
    assert event["related"] == {"ip": ["10.0.0.1", "10.0.0.2"]}
    assert event["wirebert"] == {
        "model_sha256": "ab" * 32,
        "class": "probe",
        "uid": "CE3b",
        "row": 0,
        "verdict": "alert",
        "threshold": 0.5,
        "attack_score": 0.75,
        "num_absent": 0,
        "num_unseen": 1,
        "warnings": ["absent_features"],
        "schema_version": 2,
        "probabilities": {"normal": 0.25, "probe": 0.75},
    }


def test_a_flow_that_passes_is_an_event_without_rule_and_threat():
    event, unknown = events(record(verdict="pass"), record(verdict="unknown"))
    assert (event["event"]["kind"], event["event"]["category"]) == ("event", ["network"])
    assert not {"rule", "threat"} & set(event)
    assert "severity" not in event["event"]
    assert (unknown["event"]["kind"], unknown["rule"]["category"]) == ("alert", "unknown")


def test_without_a_threshold_the_class_decides():
    plain = {name: value for name, value in record().items() if name not in ("verdict", "threshold")}
    found = events(plain, plain | {"predicted_class": "normal"})
    assert [event["event"]["kind"] for event in found] == ["alert", "event"]


def test_a_host_that_is_no_address_is_kept_as_one():
    (event,) = events(record(src_ip='host"\n\x00', dst_ip=None, dst_port=None))
    assert event["source"]["address"] == 'host"\n\x00'
    assert "ip" not in event["source"]
    assert event["destination"] == {"bytes": 50}
    assert "related" not in event


def test_icmp_between_long_addresses_is_icmpv6():
    (event,) = events(record(src_ip="fe80::1", dst_ip="fe80::2", protocol="icmp"))
    assert (event["network"]["transport"], event["network"]["iana_number"]) == ("ipv6-icmp", "58")
    assert event["network"]["type"] == "ipv6"


def test_a_record_without_anything_that_locates_the_flow_is_an_event_of_now():
    names = (
        "row",
        "predicted_class",
        "p_normal",
        "attack_score",
        "verdict",
        "community_id",
        "schema_version",
    )
    (event,) = events({name: value for name, value in record(community_id=None).items() if name in names})
    assert not {"source", "destination", "network"} & set(event)
    assert abs(datetime.fromisoformat(event["@timestamp"]).timestamp() - datetime.now(UTC).timestamp()) < 60


def test_the_same_flow_has_the_same_id_and_another_has_another():
    first, again, other = events(record(), record(row=7, attack_score=0.7), record(uid="other"))
    assert first["event"]["id"] == again["event"]["id"] != other["event"]["id"]
    without = {name: value for name, value in record().items() if name != "uid"}
    one, two = events(without, without | {"row": 1})
    assert one["event"]["id"] != two["event"]["id"]
    assert events(record(event_id="x"))[0]["event"]["id"] == "x"


def test_explanations_are_the_reason():
    schema_of = record(explanation=["service=smb", "dst_port=445"])
    assert events(schema_of)[0]["event"]["reason"] == "service=smb; dst_port=445"
    assert "reason" not in events(record(explanation=None))[0]["event"]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.none()
numbers = st.floats() | st.none()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                **dict.fromkeys(("ts", "uid", "src_ip", "dst_ip", "protocol", "service"), texts),
                **dict.fromkeys(
                    ("duration_s", "src_ip_bytes", "dst_packets", "p_probe", "attack_score"), numbers
                ),
                **dict.fromkeys(("src_port", "dst_port"), st.integers(-9, 99_999) | st.none()),
                "predicted_class": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
                "verdict": st.sampled_from(("alert", "pass", "unknown")),
            }
        ),
        min_size=1,
        max_size=8,
    )
)
def test_events_of_any_content_are_valid(rows: list[dict[str, object]]):
    assert len(events(*[record(**row) for row in rows])) == len(rows)


def test_no_records_are_no_events():
    schema = pa.schema([(name, types.get(name, pa.string())) for name in record()])
    assert ecs_events(schema.empty_table(), CONTEXT) == []


def test_carried_columns_are_those_that_events_tell():
    names = ("ts", "uid", "src_ip", "dst_ip", "protocol", "history", "src_packets", "label")
    assert set(carried_columns(names)) == {"ts", "uid", "src_ip", "dst_ip", "protocol", "src_packets"}


@pytest.mark.parametrize("source", ["10.0.0.1", "host", ""])
@pytest.mark.parametrize("name", ["scan", "unknown", "no such class"])
def test_incidents_are_events_too(source: str, name: str):
    incident = Incident(
        incident_id="a1",
        source=source,
        class_name=name,
        severity=47,
        first_s=100.0,
        last_s=160.0,
        num_flows=40,
        num_destinations=30,
        num_ports=1,
        peak_score=0.9,
        joint_score=0.999,
        evidence=("conn_state=S0",),
    )
    (line,) = ecs_incidents([IncidentEvent(kind="opened", incident=incident, number=1)], CONTEXT)
    event = check(line)
    assert event["event"]["action"] == "incident-opened"
    assert event["event"]["id"] == "a1-1"
    assert event["wirebert"]["incident"]["num_flows"] == 40
    assert ("ip" in event.get("source", {})) == (source == "10.0.0.1")
