# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from wirebert.data.synthetic.attacks import ATTACKS, beaconing, exfiltration, horizontal_scan, vertical_scan
from wirebert.data.synthetic.network import Network
from wirebert.data.synthetic.wire import Scene


def scene() -> Scene:
    return Scene(Network(0), np.random.default_rng(0), 1 / 3, 2 / 3)


def largest_burst(found: pa.Table) -> pa.Table:
    """The flows of the source that has the most."""
    source = max(pc.value_counts(found["source"]).to_pylist(), key=lambda row: row["counts"])["values"]
    return found.filter(pc.equal(found["source"], source)).sort_by("time_s")


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("count", [1, 7, 300])
def test_as_many_flows_as_asked_for_within_the_span(attack: Callable[[Scene, int], pa.Table], count: int):
    found = attack(scene(), count)
    start_s, stop_s = scene().span_s
    assert found.num_rows == count
    assert start_s <= pc.min(found["time_s"]).as_py() <= pc.max(found["time_s"]).as_py() < stop_s


def test_a_horizontal_scan_reaches_many_hosts_on_one_port():
    found = horizontal_scan(scene(), 60)  # one campaign
    assert pc.count_distinct(found["source"]).as_py() == 1
    assert pc.count_distinct(found["dst_port"]).as_py() == 1
    assert pc.count_distinct(found["destination"]).as_py() > 40


def test_a_vertical_scan_reaches_many_ports_of_one_host():
    found = vertical_scan(scene(), 80)
    assert pc.count_distinct(found["source"]).as_py() == pc.count_distinct(found["destination"]).as_py() == 1
    assert pc.count_distinct(found["dst_port"]).as_py() > 50


def test_scans_last_seconds():
    for scan in (horizontal_scan, vertical_scan):
        assert np.ptp(scan(scene(), 60)["time_s"].to_numpy()) < 30


def test_beacons_repeat_over_the_whole_span():
    gaps_s = np.diff(largest_burst(beaconing(scene()))["time_s"].to_numpy())
    assert len(gaps_s) > 5
    assert gaps_s.std() < 0.4 * gaps_s.mean()


def test_exfiltration_sends_far_more_than_it_gets():
    found = exfiltration(scene(), 100)
    assert pc.sum(found["src_payload_bytes"]).as_py() > 100 * pc.sum(found["dst_payload_bytes"]).as_py()
