# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from capture_generator.campaigns import calling_home, password_guessing, scanning

from wirebert.data.synthetic.network import Network
from wirebert.data.synthetic.wire import Scene


def scene(seed: int = 0) -> Scene:
    return Scene(Network(0), np.random.default_rng(seed), 0.3, 0.4)


def distinct(flows: pa.Table, name: str) -> int:
    return pc.count_distinct(flows[name]).as_py()


@pytest.mark.parametrize("campaign", [scanning, password_guessing, calling_home])
@pytest.mark.parametrize("count", [1, 7, 200])
def test_a_campaign_has_as_many_flows_as_asked_for_and_the_same_by_the_same_seed(
    campaign: Callable[[Scene, int], pa.Table], count: int
):
    for seed in range(12):
        found = campaign(scene(seed), count)
        assert found.num_rows == count
        assert found.equals(campaign(scene(seed), count))


def test_scans_are_of_many_hosts_or_many_ports_by_one_source():
    scans = [scanning(scene(seed), 120) for seed in range(60)]
    assert all(distinct(one, "source") == 1 for one in scans)
    hosts, ports = (np.array([distinct(one, name) for one in scans]) for name in ("destination", "dst_port"))
    is_icmp = np.array([one["protocol"][0].as_py() == "icmp" for one in scans])
    assert (np.maximum(hosts, ports)[~is_icmp] >= 8).all()
    assert 15 < (hosts > 5 * ports).sum() < 50  # horizontal
    assert 5 < (ports > 5 * hosts).sum() < 35  # vertical
    protocols = {one["protocol"][0].as_py() for one in scans}
    assert protocols == {"tcp", "udp", "icmp"}


def test_scans_are_slow_and_fast_answered_and_not():
    scans = [scanning(scene(seed), 120) for seed in range(60)]
    spans_s = [np.ptp(one["time_s"].to_numpy()) for one in scans]
    assert max(spans_s) > 100 * min(spans_s)
    failed = [
        np.isin(np.array(one["conn_state"].to_pylist(), np.str_), ["S0", "REJ"]).mean() for one in scans
    ]
    assert min(failed) < 0.2
    assert max(failed) > 0.9


def test_passwords_are_tried_over_and_over_at_few_hosts_by_flows_alike():
    for seed in range(20):
        found = password_guessing(scene(seed), 200)
        assert distinct(found, "destination") <= 6
        assert distinct(found, "dst_port") == 1
        sent = found["src_payload_bytes"].to_numpy(zero_copy_only=False)
        sent = sent[np.nan_to_num(sent) > 30]
        assert np.log(sent).std() < 0.35


def test_a_beacon_is_one_pair_or_two_with_a_period():
    for seed in range(20):
        found = calling_home(scene(seed), 100)
        assert distinct(found, "destination") <= 2
        one = found.filter(pc.equal(found["destination"], found["destination"][0]))
        gaps_s = np.diff(np.sort(one["time_s"].to_numpy()))
        assert gaps_s.std() < 0.4 * gaps_s.mean()
