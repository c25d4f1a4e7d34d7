# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false

import numpy as np
import pyarrow as pa
import pytest

from wirebert.alerts.attack_techniques import AttackTechniques
from wirebert.alerts.incident_records import AlertTable
from wirebert.alerts.suspects import Suspect, describe, find_suspects, rank_hosts

Flow = tuple[float, str, str, int, str]
"""Time, source, destination, port, state."""


def table(flows: list[Flow]) -> pa.Table:
    times, sources, destinations, ports, states = (list(column) for column in zip(*flows, strict=True))
    return pa.table(
        {
            "ts": [f"{time:.3f}" for time in times],
            "src_ip": sources,
            "dst_ip": destinations,
            "dst_port": ports,
            "predicted_class": ["scan"] * len(flows),
            "attack_score": [0.9] * len(flows),
            "conn_state": states,
        }
    )


def suspects(records: pa.Table, points: list[float], gap_s: float = 100.0) -> list[Suspect]:
    given = np.array(points, np.float64)
    techniques = AttackTechniques.built_in()
    return find_suspects(records, given, 10, gap_s=gap_s, benign="benign", techniques=techniques)


def described(flows: list[Flow]) -> str:
    return describe(AlertTable.of(table(flows), None), np.arange(len(flows)))


def test_a_vertical_scan_is_ports_of_one_host():
    flows = [(i / 10, "a", "victim", 1_000 + i, "REJ" if i else "SF") for i in range(46)]
    assert described(flows) == "46 ports of victim in 4.5 s; 45 of 46 refused or unanswered"


def test_a_horizontal_scan_is_hosts_at_a_port():
    flows = [(float(i), "a", f"host{i}", 445, "SF") for i in range(200)]
    assert described(flows) == "200 hosts port 445 in 3 min"


def test_a_beacon_has_a_period_and_guessing_has_none():
    beats = [(60.0 * i + i % 2, "a", "home", 443, "SF") for i in range(20)]
    assert described(beats) == "20 flows to home port 443, every 60 s (± 2%)"
    bursts = [(i**2 * 1.0, "a", "server", 22, "SF") for i in range(20)]
    assert described(bursts) == "20 flows to server port 22 in 6 min"
    assert described(beats[:1]) == "1 flow to home port 443"


def test_flows_of_a_source_without_a_long_gap_are_one_group_whatever_their_class():
    flows = [(float(i), "a", f"h{i}", 80, "SF") for i in range(9)] + [(500.0, "a", "h", 80, "SF")]
    records = table(flows).set_column(4, "predicted_class", pa.array(["scan", "flood"] * 5))
    found = suspects(records, [2.0] * 10)
    assert [one.incident.num_flows for one in found] == [9, 1]
    assert found[0].score == pytest.approx(2 * (1 + np.log(9)))


def test_many_sources_with_a_flow_each_at_one_host_are_one_group_without_a_source():
    flows = [(i / 10, f"spoofed{i}", "web", 80, "S0") for i in range(30)] + [(1.0, "b", "c", 22, "SF")]
    found = suspects(table(flows), [3.0] * 31)
    assert [one.incident.num_flows for one in found] == [30, 1]
    assert (found[0].incident.source, found[0].incident.num_sources) == ("", 30)
    assert found[1].incident.source == "b"


def test_flows_just_below_the_threshold_join_a_group_but_add_no_score():
    flows = [(float(i), "a", f"h{i}", 80, "SF") for i in range(10)] + [(3.0, "b", "c", 22, "SF")]
    points = [2.0] * 4 + [0.5] * 6 + [0.9]
    (found,) = suspects(table(flows), points)
    assert (found.incident.num_flows, found.num_above) == (10, 4)
    assert found.score == pytest.approx(2 * (1 + np.log(4)))
    alone = suspects(table(flows), [2.0] + [0.5] * 10)
    assert [one.incident.num_flows for one in alone] == [1]


def test_without_any_flow_above_the_threshold_the_least_usual_are_listed():
    flows = [(0.0, "a", "x", 80, "SF"), (0.0, "b", "y", 80, "SF")]
    found = suspects(table(flows), [-4.0, -1.0])
    assert [one.incident.source for one in found] == ["b", "a"]
    assert [one.num_above for one in found] == [0, 0]


def test_a_busy_host_ranks_below_one_whose_every_flow_is_unusual():
    flows = [(0.0, "busy", "x", 80, "SF")] * 50 + [(0.0, "scanner", f"h{i}", 80, "S0") for i in range(20)]
    hosts = rank_hosts(table(flows), np.full(70, 3.0), {"busy": 5_000, "scanner": 22}, 0.01)
    assert [host.source for host in hosts] == ["scanner", "busy"]
    assert hosts[0].score == pytest.approx(3 * (1 + np.log(20)))
    assert hosts[1].score == pytest.approx(3.0)  # as many as the target FPR makes of 5,000
    assert (hosts[0].num_destinations, hosts[1].num_flows) == (20, 5_000)


def test_without_addresses_and_times_flows_are_grouped_by_class():
    records = pa.table(
        {
            "predicted_class": ["dos", "dos", "probe"],
            "attack_score": [0.9, 0.8, 0.7],
            "dst_packets": [0, 1, 0],
        }
    )
    found = suspects(records, [3.0, 2.0, 1.0])
    assert [(one.incident.class_name, one.incident.num_flows) for one in found] == [("dos", 2), ("probe", 1)]
    assert found[0].what.endswith("; 1 of 2 refused or unanswered")
