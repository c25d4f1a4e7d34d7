# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from capture_generator.habits import HABITS, beats, logons, polls, retries, swarms

from wirebert.data.synthetic.network import Network
from wirebert.data.synthetic.wire import Scene


def scene(seed: int = 0) -> Scene:
    return Scene(Network(0), np.random.default_rng(seed), 0.3, 0.4)


@pytest.mark.parametrize("habit", list(HABITS))
@pytest.mark.parametrize("count", [1, 7, 200])
def test_a_habit_has_as_many_flows_as_asked_for_and_the_same_by_the_same_seed(
    habit: Callable[[Scene, int], pa.Table], count: int
):
    found = habit(scene(), count)
    assert found.num_rows == count
    assert found.equals(habit(scene(), count))
    start_s, stop_s = scene().span_s
    assert start_s <= pc.min(found["time_s"]).as_py() <= pc.max(found["time_s"]).as_py() <= stop_s


def test_probabilities_of_habits_sum_to_one():
    assert sum(HABITS.values()) == pytest.approx(1)


def test_a_poller_asks_each_host_again_which_no_scanner_does():
    found = polls(scene(3), 250)
    assert pc.count_distinct(found["source"]).as_py() == 1
    counts = pc.value_counts(found["destination"]).field("counts").to_numpy()
    assert counts.min() >= 1
    assert counts.mean() > 1.5


def test_retries_are_never_answered():
    found = retries(scene(), 200)
    assert set(found["conn_state"].to_pylist()) <= {"S0", "REJ"}
    assert pc.count_distinct(found["destination"]).as_py() <= 3


def test_a_swarm_speaks_at_another_port_of_each_host():
    found = swarms(scene(), 300)
    assert pc.count_distinct(found["destination"]).as_py() > 200
    assert pc.count_distinct(found["dst_port"]).as_py() > 200
    assert found["protocol"].to_pylist().count("udp") > 180


def test_a_logon_uses_several_ports_of_a_server_or_two():
    found = logons(scene(), 180)
    assert pc.count_distinct(found["destination"]).as_py() <= 2
    assert pc.count_distinct(found["dst_port"]).as_py() >= 7


def test_beats_have_a_period():
    found = beats(scene(), 200)
    pairs = [found.filter(pc.equal(found["destination"], d)) for d in pc.unique(found["destination"])]
    for pair in pairs:
        gaps_s = np.diff(np.sort(pair["time_s"].to_numpy()))
        assert gaps_s.std() < 0.35 * gaps_s.mean()
