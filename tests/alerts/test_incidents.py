"""The tracker against a slow reference that has all flows at once: sort by time, then group."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirebert.alerts.incident_records import MAX_DISTINCT
from wirebert.alerts.incidents import Incident, IncidentEvent, IncidentSettings, IncidentTracker
from wirebert.data.flows import open_flows

GAP_S, LATE_S = 10.0, 5.0
SETTINGS = IncidentSettings(gap_s=GAP_S, late_s=LATE_S, min_score=0.0)


def flow(time_s: float, source: str = "10.0.0.1", **values: object) -> dict[str, object]:
    usual = {
        "ts": f"{time_s:.6f}",
        "uid": f"u{time_s}",
        "src_ip": source,
        "src_port": 50_000,
        "dst_ip": "10.0.0.9",
        "dst_port": 80,
        "predicted_class": "scan",
        "p_scan": 0.5,
        "p_dos": 0.1,
        "p_ok": 0.4,
        "attack_score": 0.5,
        "verdict": "alert",
    }
    return {**usual, **values}


def table(*flows: dict[str, object]) -> pa.Table:
    schema = pa.schema(
        [(name, pa.int64() if name.endswith("port") else pa.string()) for name in list(flow(0))[:7]]
        + [(name, pa.float64()) for name in ("p_scan", "p_dos", "p_ok", "attack_score")]
        + [
            ("verdict", pa.string()),
            *([("explanation", pa.list_(pa.string()))] if "explanation" in flows[0] else []),
        ]
    )
    return pa.Table.from_pylist(list(flows), schema)


def closed(events: list[IncidentEvent]) -> list[Incident]:
    """Incidents as they are in the end."""
    return [event.incident for event in events if event.kind == "closed" and "merged" not in event.reason]


def summary(incident: Incident) -> tuple[object, ...]:
    return (
        *(incident.source, incident.first_s, incident.last_s, incident.num_flows),
        *(incident.num_destinations, incident.num_ports, round(incident.peak_score or 0, 9)),
        round(incident.joint_score or 0, 9),
    )


def slowly(flows: list[dict[str, Any]], *, by_class: bool) -> list[tuple[object, ...]]:
    by_key: defaultdict[object, list[dict[str, Any]]] = defaultdict(list)
    for one in sorted(flows, key=lambda one: float(one["ts"])):
        if one["verdict"] == "alert":
            by_key[one["src_ip"], one["predicted_class"] if by_class else ""].append(one)
    found: list[tuple[object, ...]] = []
    for members in by_key.values():
        parts: list[list[dict[str, Any]]] = []
        for one in members:
            if not parts or float(one["ts"]) - float(parts[-1][-1]["ts"]) > GAP_S:
                parts.append([])
            parts[-1].append(one)
        for part in parts:
            scores = np.array([one["attack_score"] for one in part])
            found.append(
                (
                    *(part[0]["src_ip"], float(part[0]["ts"]), float(part[-1]["ts"]), len(part)),
                    *(len({one["dst_ip"] for one in part}), len({one["dst_port"] for one in part})),
                    *(round(scores.max(), 9), round(1 - np.prod(1 - scores), 9)),
                )
            )
    return sorted(found, key=str)


streams = st.lists(
    st.fixed_dictionaries(
        {
            "gap": st.sampled_from((0.0, 0.5, 3.0, 9.0, 11.0, 40.0)),
            "late": st.sampled_from((0.0, 0.0, 2.0, 4.5)),
            "src_ip": st.sampled_from(("10.0.0.1", "10.0.0.2")),
            "dst_ip": st.sampled_from(("10.0.0.8", "10.0.0.9")),
            "dst_port": st.integers(1, 3),
            "predicted_class": st.sampled_from(("scan", "dos")),
            "attack_score": st.sampled_from((0.0, 0.1, 0.3, 0.45, 0.9, 1.0)),
            "verdict": st.sampled_from(("alert", "alert", "pass")),
        }
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(
    streams, st.lists(st.integers(1, 7), min_size=1), st.booleans(), st.sampled_from((0.0, 0.6)), st.data()
)
def test_late_flows_blocks_and_restarts_change_nothing(
    stream: list[dict[str, Any]], sizes: list[int], by_class: bool, min_score: float, data: st.DataObject
):
    now, flows = 0.0, list[tuple[float, dict[str, Any]]]()
    for one in stream:
        now += one.pop("gap")
        flows.append((now + one.pop("late"), flow(now, **one)))
    arrived = [one for _, one in sorted(flows, key=lambda pair: pair[0])]
    kind = "source_and_class" if by_class else "source"
    given = IncidentSettings(gap_s=GAP_S, late_s=LATE_S, group_by=kind, min_score=min_score)
    tracker = IncidentTracker(given)
    events: list[IncidentEvent] = []
    start = 0
    while start < len(arrived):
        size = sizes[start % len(sizes)]
        events += tracker.add(table(*arrived[start : start + size]))
        start += size
        if data.draw(st.booleans()):
            saved = json.loads(json.dumps(tracker.state()))
            tracker = IncidentTracker.from_state(tracker.settings, saved)
    events += tracker.close_all()
    expected = slowly(arrived, by_class=by_class)
    strong = [one for one in expected if float(str(one[-1])) >= min_score]
    assert sorted(map(summary, closed(events)), key=str) == strong
    kinds = [event.kind for event in events]
    assert tracker.opened.total() == kinds.count("opened") == kinds.count("closed")
    assert tracker.num_open == 0
    for name in {event.incident.incident_id for event in events}:
        numbers = [event.number for event in events if event.incident.incident_id == name]
        assert numbers == sorted(numbers)


def test_event_time_closes_and_not_the_number_of_blocks():
    tracker = IncidentTracker(SETTINGS)
    assert [event.kind for event in tracker.add(table(flow(0)))] == ["opened"]
    assert tracker.add(table(flow(GAP_S + LATE_S, verdict="pass"))) == []
    assert [event.kind for event in tracker.advance(GAP_S + LATE_S + 0.1)] == ["closed"]
    assert tracker.advance(0.0) == []
    assert tracker.watermark_s == GAP_S + LATE_S + 0.1


def test_a_log_that_is_behind_holds_the_time_of_the_others():
    alone, tracker = IncidentTracker(SETTINGS), IncidentTracker(SETTINGS)
    events = tracker.add(table(flow(0.0)), "behind")
    events += tracker.add(table(flow(1_000.0, "10.0.0.2")), "ahead", ["behind"])
    events += tracker.add(table(flow(5.0)), "behind", ["ahead"])
    assert [event.kind for event in events] == ["opened", "opened", "updated"]
    last = closed(tracker.add(table(flow(1_001.0, "10.0.0.2")), "ahead"))  # `behind` is scored to its end
    assert [one.num_flows for one in last] == [2]
    alone.add(table(flow(0.0)))
    assert [one.kind for one in alone.add(table(flow(1_000.0, "10.0.0.2")))] == ["opened", "closed"]


def test_a_late_flow_between_two_incidents_makes_them_one():
    tracker = IncidentTracker(IncidentSettings(gap_s=10.0, late_s=100.0))
    events = tracker.add(table(flow(0))) + tracker.add(table(flow(15)))
    first, second = (event.incident.incident_id for event in events)
    (merged, grown) = tracker.add(table(flow(8)))
    assert (merged.kind, merged.incident.incident_id, merged.reason) == (
        "closed",
        second,
        f"merged into {first}",
    )
    assert (grown.kind, grown.incident.num_flows, grown.incident.first_s, grown.incident.last_s) == (
        *("updated", 3),
        *(0.0, 15.0),
    )


def test_a_flow_beyond_the_bound_is_not_lost():
    tracker = IncidentTracker(SETTINGS)
    events = tracker.add(table(flow(1_000, "10.0.0.2"))) + tracker.add(table(flow(3)))
    assert [event.kind for event in events] == ["opened", "opened", "closed"]


def test_an_incident_is_told_again_only_when_it_has_doubled_or_is_worse():
    tracker = IncidentTracker(IncidentSettings(group_by="source"))
    told = [len(tracker.add(table(flow(at)))) for at in range(64)]
    assert [at + 1 for at, count in enumerate(told) if count] == [1, 2, 4, 8, 16, 32, 64]
    (event,) = tracker.add(table(flow(64, predicted_class="backdoor")))
    assert (event.kind, event.incident.severity) == ("updated", 99)


def test_the_id_is_the_same_whenever_the_flows_are_read_again():
    names = [
        [event.incident.incident_id for event in IncidentTracker(SETTINGS).add(table(flow(5), flow(9)))]
        for _ in range(2)
    ]
    assert names[0] == names[1]
    assert names[0] != [event.incident.incident_id for event in IncidentTracker(SETTINGS).add(table(flow(6)))]


def test_incidents_beyond_the_limit_of_an_hour_are_folded_into_one():
    tracker = IncidentTracker(IncidentSettings(max_alerts_per_hour=2, gap_s=60.0))
    events = tracker.add(table(*(flow(at, f"10.0.1.{at}") for at in range(20))))
    opened = [event.incident for event in events if event.kind == "opened"]
    assert [one.is_folded for one in opened] == [False, False, True]
    later = tracker.add(table(flow(3_601, "10.0.2.1")))
    assert [event.kind for event in later if event.incident.source == "10.0.2.1"] == ["opened"]
    (folded,) = [event.incident for event in (*later, *tracker.close_all()) if event.incident.is_folded]
    assert (folded.num_flows, folded.num_sources, folded.source) == (18, 18, "")


def test_too_many_open_incidents_close_the_one_that_was_quiet_longest():
    tracker = IncidentTracker(IncidentSettings(max_open=3))
    events = tracker.add(table(*(flow(at, f"10.0.1.{at}") for at in range(5))))
    forced = [event for event in events if event.reason]
    assert [(event.incident.source, event.reason) for event in forced] == [
        ("10.0.1.0", "too many open"),
        ("10.0.1.1", "too many open"),
    ]
    assert tracker.num_open == 3


def test_an_incident_is_bounded_and_says_at_least():
    tracker = IncidentTracker(SETTINGS)
    for first in range(0, 3_000, 500):
        tracker.add(table(*(flow(1, dst_ip=f"d{at}", dst_port=at) for at in range(first, first + 500))))
    assert len(json.dumps(tracker.state())) < 60_000
    (incident,) = closed(tracker.close_all())
    assert (incident.num_flows, incident.num_destinations, incident.has_more_destinations) == (
        *(3_000, MAX_DISTINCT),
        True,
    )
    assert incident.has_more_ports
    assert len(incident.examples) == 3


def test_evidence_is_that_of_the_flow_with_the_highest_score():
    flows = [
        flow(at, attack_score=score, explanation=[f"score={score}"])
        for at, score in enumerate((0.5, 0.9, 0.7))
    ]
    (incident,) = [event.incident for event in IncidentTracker(SETTINGS).add(table(*flows))]
    assert incident.evidence == ("score=0.9",)
    assert [one["score"] for one in incident.examples] == [0.9, 0.7, 0.5]
    assert incident.examples[0]["src_ip"] == "10.0.0.1"


def test_weak_alerts_are_an_incident_once_they_are_enough_together():
    settings = IncidentSettings(gap_s=GAP_S, late_s=LATE_S, min_score=0.5, max_alerts_per_hour=1)
    tracker = IncidentTracker(settings)
    assert [tracker.add(table(flow(at, attack_score=0.2))) for at in (0.0, 1.0, 2.0)] == [[], [], []]
    assert (tracker.num_open, tracker.opened.total()) == (0, 0)
    (opened,) = tracker.add(table(flow(3.0, attack_score=0.2)))  # 1 - 0.8 ** 4 = 0.59
    assert (opened.kind, opened.incident.num_flows, opened.number) == ("opened", 4, 1)
    (folded,) = tracker.add(table(flow(4.0, "10.0.0.2", attack_score=0.9)))
    assert folded.incident.is_folded
    assert tracker.add(table(flow(5.0, "10.0.0.3", attack_score=0.2))) == []
    assert [event.kind for event in tracker.close_all()] == ["closed", "closed"]
    assert tracker.opened.total() == 2


def test_unknown_flows_open_incidents_where_that_is_set():
    unknown = table(flow(1, verdict="unknown"))
    assert IncidentTracker(SETTINGS).add(unknown) == []
    (event,) = IncidentTracker(IncidentSettings(opens_on_unknown=True)).add(unknown)
    assert event.incident.class_name == "unknown"


def test_an_alert_on_a_flow_that_looks_benign_counts_as_its_likeliest_attack():
    tracker = IncidentTracker(SETTINGS, benign="ok")
    (event,) = tracker.add(table(flow(1, predicted_class="ok", p_scan=0.2, p_dos=0.3, p_ok=0.5)))
    assert event.incident.class_name == "dos"


def test_records_without_times_or_ends_are_one_incident_of_now():
    plain = table(flow(1), flow(2)).select(["predicted_class", "p_scan", "attack_score", "verdict"])
    tracker = IncidentTracker(SETTINGS)
    tracker.advance(500.0)
    (event,) = tracker.add(plain)
    assert (event.incident.source, event.incident.first_s, event.incident.num_flows) == ("", 500, 2)


def test_what_is_no_state_is_refused():
    with pytest.raises(TypeError):
        IncidentTracker.from_state(SETTINGS, {"open": [{"key": 1}]})


@pytest.mark.parametrize(
    ("name", "scanner", "num_flows", "num_destinations", "num_ports"),
    [("horizontal", "10.0.2.112", 15, 14, 4), ("vertical", "192.168.1.9", 46, 1, 44)],
)
def test_a_real_scan_is_one_incident(
    data_dir: Path, name: str, scanner: str, num_flows: int, num_destinations: int, num_ports: int
):
    flows = open_flows(data_dir / "sensors" / "zeek-scans" / f"{name}.conn.log")
    records = pa.concat_tables(flows.blocks())
    is_scan = [
        source == scanner and state != "SF"
        for source, state in zip(
            records["src_ip"].to_pylist(), records["conn_state"].to_pylist(), strict=True
        )
    ]
    ports = records["dst_port"].cast(pa.float64()).cast(pa.int64())
    records = records.set_column(records.column_names.index("dst_port"), "dst_port", ports)
    records = records.append_column("verdict", pa.array(["alert" if one else "pass" for one in is_scan]))
    records = records.append_column("predicted_class", pa.array(["scan"] * records.num_rows))
    tracker = IncidentTracker(IncidentSettings())
    events = [event for row in range(records.num_rows) for event in tracker.add(records.slice(row, 1))]
    (incident,) = closed(events + tracker.close_all())
    assert (incident.num_flows, incident.num_destinations, incident.num_ports) == (
        *(num_flows, num_destinations),
        num_ports,
    )
